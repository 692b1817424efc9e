"""Where sessions live, behind one protocol (`rayflow.runtime.ports.SessionStore`) and one contract suite."""
