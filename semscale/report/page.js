"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const hidden = new Set();
  const views = new Map();

  function shown(spec) {
    return spec.params[0].value.filter((name) => !hidden.has(name));
  }

  function draw(chart) {
    const spec = specs[chart.id];
    if (!spec || chart.dataset.drawn) return Promise.resolve();
    chart.dataset.drawn = "yes";
    // the expression interpreter: the content security policy forbids code from strings
    return vegaEmbed(chart, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, logLevel: 1, tooltip: { theme: "page" } })
      .then((result) => {
        views.set(chart.id, result.view);
        chart.dataset.ready = "yes";
        // the chart has an accessible name; the labels of the SVG's parts would only add noise
        chart.querySelector("svg").setAttribute("aria-hidden", "true");
        performance.mark(`drawn ${chart.id}`);
        if (spec.params && hidden.size) return result.view.signal("shown", shown(spec)).runAsync();
      });
  }

  // visible charts first; the rest when the browser is idle, so that everything can be printed
  const charts = Array.from(document.querySelectorAll(".chart"));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  charts.forEach((chart) => watcher.observe(chart));
  const later = window.requestIdleCallback || ((call) => setTimeout(call, 50));
  function drawRest(from) {
    const chart = charts.slice(from).find((chart) => !chart.dataset.drawn);
    if (chart) draw(chart).then(() => later(() => drawRest(charts.indexOf(chart) + 1)));
    else document.body.dataset.charts = "drawn";
  }
  window.addEventListener("load", () => later(() => drawRest(0)));

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
