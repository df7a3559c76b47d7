//! The machine the figures were taken on.

use std::process::Stdio;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bed::Bed;

/// What the head of the table says.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) load: String,
    pub(crate) accelerator: String,
    pub(crate) qemu: String,
    pub(crate) pyro: String,
}

impl Machine {
    pub(crate) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memory_gib": (self.memory_gib * 10.0).round() / 10.0,
            "kernel": self.kernel,
            "load": self.load,
            "accelerator": self.accelerator,
            "qemu": self.qemu,
            "pyro": self.pyro,
        })
    }
}

/// Asks the host and pyro.
pub(crate) fn describe(bed: &Bed) -> Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory_kib: f64 =
        after_colon(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let mut version = bed.pyro();
    let version = version.arg("--version").output()?;
    Ok(Machine {
        processor: after_colon(&read("/proc/cpuinfo"), "model name"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: memory_kib / 1024.0 / 1024.0,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        accelerator: accelerator(bed)?,
        qemu: qemu(),
        pyro: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
    })
}

/// Which accelerator a run really used, from pyro's own account of one.
fn accelerator(bed: &Bed) -> Result<String> {
    let output = bed.run(&["--json"], &["true"]).stdin(Stdio::null()).output()?;
    let account: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(find(&account, "accelerator").unwrap_or_else(|| "unknown".to_owned()))
}

fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_str).map(str::to_owned);
            own.or_else(|| fields.values().find_map(|field| find(field, key)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, key)),
        _ => None,
    }
}

fn qemu() -> String {
    let output = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim_start_matches("QEMU emulator version ").to_owned()
}
