"""Agents, one folder each: utterances, skills, a model and a prompt per step, and the rubric of a good answer."""
