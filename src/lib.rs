//! Tallygate: the AI API gateway whose bill you can check and whose refusals explain themselves.
