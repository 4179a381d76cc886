"""The service: laboratories, workers, people and pages at one door. See docs/service.md."""
