"""The knowledge file: a text or Markdown file whose sentences the offline model may answer with."""

from __future__ import annotations

from pathlib import Path

from rayflow.errors import ConfigurationError
from rayflow.language.sentences import sentences
from rayflow.models.offline.ranking import Index, Passage

MAX_BYTES = 16 << 20


class Knowledge:
    """Read once and indexed; `name` is the file's name, as answers quote it."""

    def __init__(self, text: str = "", name: str = "") -> None:
        self.name = name
        self.index = Index([Passage(sentence, "knowledge", 1.0, n) for n, sentence in enumerate(sentences(text))])

    @classmethod
    def read(cls, path: str) -> Knowledge:
        """Raises `ConfigurationError` for a file that is missing, too large or not UTF-8 text."""
        file = Path(path)
        try:
            if file.stat().st_size > MAX_BYTES:
                raise ConfigurationError(f"knowledge file {path}: larger than {MAX_BYTES >> 20} MiB; split it")
            return cls(file.read_text("utf-8"), file.name)
        except OSError as error:
            raise ConfigurationError(f"knowledge file {path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"knowledge file {path}: not UTF-8 text (byte {error.start})") from error
