"""Pedestrians drawn by code, in MARS's layout: `people`, who walks where (`plan`), and how it looks (`walks`)."""
