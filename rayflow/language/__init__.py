"""What the offline model and the context policies know of language: words, sentences, and facts within them.

Pure functions of text, kept below both: a model may not import a policy, nor a policy a model.
"""
