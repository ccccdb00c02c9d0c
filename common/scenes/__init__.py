"""One object photographed from several sides: from whatever people have to views of one frame."""
