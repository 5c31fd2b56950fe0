//! Secrets as files: `<dir>/<name>/<key>`, read anew at each use, so that a rotated value is seen.

use std::io;
use std::path::PathBuf;

use evp_api::plan::SecretKeyRef;

/// A folder with one sub-folder a Secret and one file a key.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
}

/// A value that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such Secret, or it lacks the key: it may still come.
    #[error(
        "Secret {name} has no key '{key}': create the Secret or add the key; it is looked for again"
    )]
    Missing {
        /// Secret.
        name: String,
        /// Key.
        key: String,
    },
    /// The file is there and cannot be read as text.
    #[error("key '{key}' of Secret {name} cannot be read")]
    Read {
        /// Secret.
        name: String,
        /// Key.
        key: String,
        /// Why.
        source: io::Error,
    },
}

impl Secrets {
    /// Secrets below a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The value of one key, without a trailing line break.
    pub fn read(&self, secret: &SecretKeyRef) -> Result<String, Error> {
        let SecretKeyRef { name, key } = secret;
        match std::fs::read_to_string(self.dir.join(name).join(key)) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::Missing {
                name: name.clone(),
                key: key.clone(),
            }),
            Err(source) => Err(Error::Read {
                name: name.clone(),
                key: key.clone(),
                source,
            }),
        }
    }
}
