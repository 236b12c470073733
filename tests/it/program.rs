//! The program itself, as a child process in an empty folder of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

/// A running `auditlog serve`; killed when dropped.
pub struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    pub address: SocketAddr,
    /// Its working directory.
    pub folder: TempDir,
}

impl Process {
    /// Starts the program with nothing in its environment but `variables`, on a free port, and waits until it serves.
    pub fn serve(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_auditlog"))
            .current_dir(folder.path())
            .env_clear()
            .env("AUDITLOG_LISTEN", "127.0.0.1:0")
            .env("AUDITLOG_LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = address_in(&mut log);
        Self { child, log, address, folder }
    }

    /// Asks it to end, and gives how it ended and what it has logged since it serves.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(log: &mut impl std::io::BufRead) -> SocketAddr {
    let mut read = String::new();
    for line in log.lines() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once(r#""message":"serving","#)
            && let Some((_, rest)) = rest.split_once(r#""address":""#)
        {
            return rest.split('"').next().unwrap().parse().unwrap();
        }
        read.push_str(&line);
        read.push('\n');
    }
    panic!("it ended before it served:\n{read}");
}
