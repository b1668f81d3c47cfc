"""The review page in a real Chromium: by mouse, keyboard and touch, from disk."""
