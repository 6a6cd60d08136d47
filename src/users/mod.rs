//! Who may log in: the file of users, read at start and whenever it changes.

mod command;

pub use command::{Command, run};

use crate::configuration::{Finding, UserFile, load_users};
use auth::{Key, Users};
use ring::rand::{SecureRandom, SystemRandom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// A file of users and what it said.
pub struct Source {
    file: PathBuf,
    stamp: Option<Stamp>,
    keys: Keys,
    /// All users.
    pub users: Arc<Users>,
}

/// Keys of this run of the program.
struct Keys {
    key: Key,
    /// For a file without a key of its own.
    decoy: Key,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    fn of(file: &Path) -> Option<Stamp> {
        let data = std::fs::metadata(file).ok()?;
        Some(Stamp(data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
    }
}

impl Source {
    /// Reads `file`; gives warnings along with it, or says what is wrong.
    pub fn open(file: &Path) -> Result<(Source, Vec<Finding>), Vec<Finding>> {
        // Before the file is read, so that a change in between is seen as one.
        let stamp = Stamp::of(file);
        let (read, warnings) = load_users(file)?;
        let keys = Keys { key: random_key(), decoy: random_key() };
        let users = Arc::new(keys.users(read));
        Ok((Source { file: file.into(), stamp, keys, users }, warnings))
    }

    /// Looks at the file for ever, and hands on what it says whenever it changes. A file that is wrong, or gone, changes
    /// nothing but the log.
    pub fn watch(mut self, hand_on: impl Fn(Arc<Users>)) -> ! {
        loop {
            std::thread::sleep(LOOK);
            if let Some(users) = self.look() {
                hand_on(users);
            }
        }
    }

    fn look(&mut self) -> Option<Arc<Users>> {
        let stamp = Stamp::of(&self.file);
        if stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        match load_users(&self.file) {
            Ok((read, warnings)) => {
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                let users = Arc::new(self.keys.users(read));
                tracing::info!(file = %self.file.display(), users = users.len(), "users read again");
                Some(users)
            }
            Err(findings) => {
                findings.iter().for_each(|finding| tracing::error!("{finding}"));
                tracing::error!(file = %self.file.display(), "the users are left as they were; correct the file");
                None
            }
        }
    }
}

impl Keys {
    fn users(&self, read: UserFile) -> Users {
        Users::new(read.users, read.decoy.unwrap_or_else(|| self.decoy.clone()), self.key.clone())
    }
}

fn random_key() -> Key {
    Key(random())
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("Linux always has random bytes once it has booted");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::password;

    fn write(file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn a_changed_file_counts_and_a_wrong_one_does_not() {
        let directory = std::env::temp_dir().join(format!("mtad-users-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("users.toml");
        assert!(Source::open(&file).is_err());
        write(&file, "[[user]]\nname = \"a\"\nsenders = [\"*\"]\n");
        let (mut source, warnings) = Source::open(&file).unwrap();
        assert_eq!((source.users.len(), warnings.len()), (1, 1), "others can read it");
        assert!(source.look().is_none());
        write(&file, "[[user]]\nname = 1\n");
        assert!(source.look().is_none() && source.look().is_none());
        write(
            &file,
            "[[user]]\nname = \"a\"\nsenders = [\"*\"]\n[[user]]\nname = \"b\"\nsenders = [\"*\"]\n",
        );
        let users = source.look().unwrap();
        assert!(users.active("b").is_some() && users.check("b", &password("x").unwrap()).is_none());
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(source.look().is_none());
    }
}
