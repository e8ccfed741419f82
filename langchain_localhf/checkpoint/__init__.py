"""What a model's files say, read without any framework: JSON and the headers of safetensors files.

An incomplete, contradictory or unsafe model ends here, in milliseconds, before a framework is imported.
"""
