"""Chinese sentiment: is a review good or bad?"""
