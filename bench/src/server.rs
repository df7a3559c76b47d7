//! The server for chat hosts: how soon it answers while it has much to do, and what it holds while it has nothing to do.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::sample::{Figures, Measured, Unit};

/// Commands that run while the server is asked.
const COMMANDS: usize = 10;

/// How many answers are timed.
const PINGS: usize = 50;

/// A server and the session with it; ended when dropped.
struct Server {
    child: Child,
    to: Option<ChildStdin>,
    from: Lines<BufReader<ChildStdout>>,
    next_id: u64,
}

impl Server {
    fn start(bed: &Bed) -> Result<Self> {
        let mut command = bed.pyro();
        command.args(["mcp", "serve"]).current_dir(bed.dir());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let mut server = Self { child, to, from, next_id: 1 };
        let us = json!({"name": "bench", "version": "1"});
        server.ask("initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": us}))?;
        server.ask("tools/list", &json!({}))?;
        Ok(server)
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let to = self.to.as_mut().context("the input is open")?;
        writeln!(to, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        Ok(id)
    }

    /// Answers to other requests are passed over.
    fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        let id = self.request(method, params)?;
        loop {
            let line = self.from.next().context("the server answers")??;
            let mut answer: Value = serde_json::from_str(&line)?;
            if answer["id"] == json!(id) {
                return Ok(answer["result"].take());
            }
        }
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let result = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        ensure!(result["isError"] != json!(true), "{tool}: {result}");
        Ok(result)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends it in order.
        drop(self.to.take());
        drop(self.child.wait());
    }
}

/// A ping while ten commands of a workspace run and print.
pub(crate) fn busy_ping(bed: &Bed) -> Result<Measured> {
    let mut server = Server::start(bed)?;
    let made = server.call("workspace_create", json!({}))?;
    let id = made["structuredContent"]["id"].clone();
    let command = "for i in $(seq 35); do echo line $i; sleep 1; done";
    let call = json!({"name": "workspace_exec", "arguments": {"workspace": id, "command": command}});
    for _ in 0..COMMANDS {
        server.request("tools/call", &call)?;
    }
    // They are on their way into the guest.
    std::thread::sleep(Duration::from_secs(3));
    let ping = |_| {
        let started = Instant::now();
        server.ask("ping", &json!({}))?;
        let taken = started.elapsed().as_secs_f64() * 1000.0;
        std::thread::sleep(Duration::from_millis(100));
        Ok(taken)
    };
    let samples = (0..PINGS).map(ping).collect::<Result<_>>()?;
    server.call("workspace_delete", json!({"workspace": id, "discard": true}))?;
    Ok(Measured::Figures(Figures::new(Unit::Milliseconds, samples)))
}

/// All memory of a server that has listed its tools and nothing to do, its program's included.
pub(crate) fn memory(bed: &Bed) -> Result<Measured> {
    let sample = || -> Result<f64> {
        let server = Server::start(bed)?;
        let path = format!("/proc/{}/status", server.child.id());
        let text = std::fs::read_to_string(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel tells it")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    };
    let samples = (0..bed.samples.min(3)).map(|_| sample()).collect::<Result<_>>()?;
    Ok(Measured::Figures(Figures::new(Unit::Mebibytes, samples)))
}
