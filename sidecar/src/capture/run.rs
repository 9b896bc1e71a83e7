//! Has the kernel follow the rules, through the tools that every node with a service mesh has.

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{
    Capture, Family,
    rules::{JUMP, Table, removal},
};

/// Why the rules could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A tool cannot be run.
    #[error("cannot run {tool}: {error}; install the iptables package")]
    Tool {
        /// Its name.
        tool: String,
        /// What the system says.
        error: io::Error,
    },
    /// A tool refuses.
    #[error("{tool} failed: {said}; it needs root, or the capability NET_ADMIN")]
    Refused {
        /// Its name.
        tool: String,
        /// What it says.
        said: String,
    },
}

impl Capture {
    /// Puts the rules in place, or replaces those of an earlier call. For another [family](Self::family) than before,
    /// [remove](Self::remove) the rules first.
    ///
    /// # Errors
    /// What the tools say. A family's rules are in place as a whole or not at all.
    pub fn apply(&self) -> Result<(), CaptureError> {
        for family in present() {
            let is_new = !jumps(family, self.table_of(family))?;
            restore(family, &self.table(family, is_new))?;
        }
        Ok(())
    }

    /// Takes every rule of ours away, whatever it captured.
    ///
    /// # Errors
    /// What the tools say.
    pub fn remove() -> Result<(), CaptureError> {
        for family in present() {
            for table in Table::ALL {
                let has_jump = jumps(family, table)?;
                restore(family, &removal(table, has_jump))?;
            }
        }
        Ok(())
    }
}

/// The families that this kernel speaks.
fn present() -> impl Iterator<Item = Family> {
    let has_v6 = Path::new("/proc/net/if_inet6").exists();
    Family::ALL
        .into_iter()
        .filter(move |family| *family == Family::V4 || has_v6)
}

/// Whether the jump to our chain is there. That it cannot be told is no error: changing the rules will say why.
fn jumps(family: Family, table: Table) -> Result<bool, CaptureError> {
    let mut command = Command::new(family.tool());
    command.args(["-w", "-t", table.name(), "-C"]).args(JUMP.split(' '));
    Ok(run(command, "")?.status.success())
}

fn restore(family: Family, text: &str) -> Result<(), CaptureError> {
    let tool = format!("{}-restore", family.tool());
    let mut command = Command::new(&tool);
    command.args(["-w", "--noflush"]);
    let output = run(command, text)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CaptureError::Refused { tool, said })
}

/// Runs a tool to its end, with `input` on its standard input.
fn run(mut command: Command, input: &str) -> Result<Output, CaptureError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = piped.spawn().and_then(|mut child| {
        // Taken, so that it is closed afterwards. A tool that does not read it has something to say about that.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    output.map_err(|error| CaptureError::Tool { tool, error })
}
