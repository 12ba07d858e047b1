"""What a local Ray has started is known by its mark, also when its processes have taken other titles."""

from __future__ import annotations

import time

import psutil


def test_every_process_of_a_local_ray_keeps_the_mark(ray_session: None) -> None:
    deadline = time.monotonic() + 60
    while True:
        titles, unmarked = set(), []
        for process in psutil.Process().children(recursive=True):
            try:
                title, environment = " ".join(process.cmdline()).strip(), process.environ()
            except psutil.Error:  # ended meanwhile
                continue
            if "raylet" in title or title.startswith("ray::"):
                titles.add(title)
                unmarked += [] if "SEMSCALE_GUARDED_BY" in environment else [title]
        assert not unmarked
        if {"ray::DashboardAgent", "ray::RuntimeEnvAgent"} <= titles:
            return
        assert time.monotonic() < deadline, titles
