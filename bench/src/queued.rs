//! How many messages the target says are still in its queue.

use std::io::{self, ErrorKind};
use std::process::Command;

/// Asks with a command for the shell, which has to print the number, counted in recipients, and nothing else.
pub fn ask(command: &str) -> io::Result<u64> {
    let output = Command::new("sh").arg("-c").arg(command).output()?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let number = answer.trim().parse().ok().filter(|_| output.status.success());
    number.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let text = format!(
            "the command for the queue ended with {} and printed {:?}, not a number; {}",
            output.status,
            answer.trim(),
            errors.trim()
        );
        io::Error::new(ErrorKind::InvalidData, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_answer_and_anything_else_is_not() {
        assert_eq!(ask("echo 3 4 | wc -w").unwrap(), 2);
        for wrong in ["echo", "echo 3 messages", "echo 3; exit 1", "echo -1", "no-such-command"] {
            assert!(ask(wrong).is_err(), "{wrong}");
        }
    }
}
