//! One error type for the whole library.
//!
//! An [`Error`] is a kind, a message that carries the values involved, and possibly a source.
//! Messages are lower case, name file, field and value, and say what was expected.

use std::fmt;
use std::path::Path;

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarse enough to choose an exit code from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A recipe, an override or an argument is wrong.
    Recipe,
    /// A data file is missing, damaged or not what it claims to be.
    Data,
    /// Training produced a value that is not a number, or a network that cannot learn any more.
    Diverged,
    /// A checkpoint or a run folder is missing, damaged or does not fit.
    Checkpoint,
    /// The operating system refused to read or write.
    Io,
    /// The user asked to stop.
    Interrupted,
}

/// Where in a text an error lies; lets a front end draw a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Name of the text, usually a path.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Byte range of the offending part.
    pub span: std::ops::Range<usize>,
    /// What is allowed there.
    pub help: String,
}

/// The library's error.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    excerpt: Option<Box<Excerpt>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a finished message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), excerpt: None, source: None }
    }

    /// A wrong recipe, override or argument.
    pub fn recipe(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Recipe, message)
    }

    /// A wrong data file. The message should name file, what was expected and what was found.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A checkpoint or run folder that cannot be used.
    pub fn checkpoint(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Checkpoint, message)
    }

    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// An operating system error while doing `what` (for example "reading") with `path`.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{what} {}: {source}", path.display())).with_source(source)
    }

    /// Attaches the error that caused this one.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Attaches the place in a text that this error is about.
    #[must_use]
    pub fn with_excerpt(mut self, excerpt: Excerpt) -> Self {
        self.excerpt = Some(Box::new(excerpt));
        self
    }

    /// Puts `context` and a colon before the message, leaving kind, excerpt and source as they are.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The place in a text that this error is about, if it is about one.
    pub fn excerpt(&self) -> Option<&Excerpt> {
        self.excerpt.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
