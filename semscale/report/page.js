"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const hidden = new Set();
  const views = new Map();

  function shown(spec) {
    return spec.params[0].value.filter((name) => !hidden.has(name));
  }

  function draw(place) {
    const spec = specs[place.id];
    if (!spec || place.dataset.drawn) return Promise.resolve();
    place.dataset.drawn = "yes";
    // the interpreter instead of compiled expressions: the page's policy allows no code from strings
    return vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, logLevel: 1, tooltip: { theme: "page" } })
      .then((result) => {
        views.set(place.id, result.view);
        place.dataset.ready = "yes";
        // the figure has a name; what an SVG's parts are called would only be in the way
        place.querySelector("svg").setAttribute("aria-hidden", "true");
        performance.mark(`drawn ${place.id}`);
        if (spec.params && hidden.size) return result.view.signal("shown", shown(spec)).runAsync();
      });
  }

  // what is looked at comes first, the rest when nothing else is to be done, so that all of it can be printed
  const places = Array.from(document.querySelectorAll(".chart"));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  places.forEach((place) => watcher.observe(place));
  const later = window.requestIdleCallback || ((call) => setTimeout(call, 50));
  function rest(from) {
    const place = places.slice(from).find((one) => !one.dataset.drawn);
    if (place) draw(place).then(() => later(() => rest(places.indexOf(place) + 1)));
    else document.body.dataset.charts = "drawn";
  }
  window.addEventListener("load", () => later(() => rest(0)));

  for (const button of document.querySelectorAll("button[data-series]")) {
    button.addEventListener("click", () => {
      const name = button.dataset.series;
      const on = hidden.delete(name);
      if (!on) hidden.add(name);
      button.setAttribute("aria-pressed", String(on));
      views.forEach((view, id) => { if (specs[id].params) view.signal("shown", shown(specs[id])).runAsync(); });
    });
  }
  const toggles = document.querySelector(".toggles");
  if (toggles) toggles.hidden = false;

  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.printed:not([open])").forEach((one) => { one.open = true; one.dataset.shut = "yes"; });
  });
  window.addEventListener("afterprint", () => {
    document.querySelectorAll("details[data-shut]").forEach((one) => { one.open = false; delete one.dataset.shut; });
  });
})();
