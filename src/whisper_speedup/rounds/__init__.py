"""Engines that take turns over a few clips, each in a process that stays: what an interval over rounds stands on."""
