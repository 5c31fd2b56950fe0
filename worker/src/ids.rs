//! The only file that makes random names. Tests inject a seed.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// A shared source of random names.
#[derive(Clone, Debug)]
pub struct Ids(Arc<Mutex<ChaCha12Rng>>);

impl Ids {
    /// Names nobody can guess or repeat.
    pub fn os() -> Self {
        Self(Arc::new(Mutex::new(ChaCha12Rng::from_os_rng())))
    }

    /// The same names for the same seed: for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha12Rng::seed_from_u64(seed))))
    }

    /// 128 random bits as 32 hex digits.
    pub fn random128(&self) -> String {
        let mut bytes = [0; 16];
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut bytes);
        bytes
            .iter()
            .fold(String::with_capacity(32), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }

    /// A name for one write; the same over its retries.
    pub fn nonce(&self) -> String {
        self.random128()
    }
}

/// Folder of state that outlives a run: `$XDG_STATE_HOME/evp` or `~/.local/state/evp`. `None`: there is no home either.
pub fn state_home() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|h| h.join(".local/state")))?;
    Some(base.join("evp"))
}

/// Who owns checkpoints of local runs: `local:<random>`, made once and kept in `<state>/id`, so that the same user goes on.
pub fn local_owner(ids: &Ids, state: &Path) -> io::Result<String> {
    fs::create_dir_all(state)?;
    let file = state.join("id");
    // Written aside and linked: another process sees the whole name or none, and the first one stays.
    let aside = state.join(format!(".id-{}", ids.nonce()));
    if !file.try_exists()? {
        let mut new = fs::File::create_new(&aside)?;
        writeln!(new, "local:{}", ids.random128())?;
        new.sync_all()?;
        let linked = fs::hard_link(&aside, &file);
        fs::remove_file(&aside)?;
        linked.or_else(|e| {
            if e.kind() == io::ErrorKind::AlreadyExists {
                Ok(())
            } else {
                Err(e)
            }
        })?;
    }
    Ok(fs::read_to_string(&file)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_128_bits_and_follow_the_seed() {
        let (a, b) = (Ids::seeded(1), Ids::seeded(1));
        let name = a.random128();
        assert_eq!((name.len(), &name), (32, &b.random128()));
        assert_ne!(a.nonce(), name);
    }

    #[test]
    fn the_local_owner_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = local_owner(&Ids::seeded(1), dir.path()).unwrap();
        assert!(first.starts_with("local:") && first.len() == 38, "{first}");
        assert_eq!(local_owner(&Ids::seeded(2), dir.path()).unwrap(), first);
    }
}
