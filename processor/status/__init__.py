"""The status of CI and of promgithub itself: a page for people, and the same as JSON."""
