//! Packages through a guest's network: apt from the real archive, pip from an index on this machine, and what becomes of them
//! with snapshots and resets. An index of its own, because where TLS is taken apart on the way, a guest does not know who does.

use std::time::Duration;

use vm_tests::http::Server;
use vm_tests::{Home, Outcome, Workspace};

/// Makes a wheel of one module, as `pip` takes it.
const WHEEL: &str = r#"
import zipfile
with zipfile.ZipFile("/workspace/tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "print('tiny works')\n")
    info = "tiny-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "tiny.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
"#;

#[test]
fn packages_are_installed_through_a_narrow_network_and_stay_with_a_snapshot() {
    let home = Home::shared();
    let index = Server::start();
    let address = format!("host.pyro.internal:{}", index.port());
    let network = ["--network-policy", "egress", "--allow-domain", "deb.debian.org", "--allow-host", &address];
    let workspace = Workspace::create(&home, &network);

    let apt = "apt-get update && apt-get install -y --no-install-recommends hello python3-pip && hello";
    slow(&workspace, apt).assert_code(0).assert_stdout_has("Hello, world!");

    workspace.exec(&["python3", "-c", WHEEL]).finish().assert_code(0);
    let wheel = home.path().join("tiny.whl");
    let output = wheel.to_str().expect("paths of tests are text");
    workspace.verb("export", &["/workspace/tiny-1.0-py3-none-any.whl", "--output", output]).finish().assert_code(0);
    index.put("/simple/tiny/", "<a href=\"../../tiny-1.0-py3-none-any.whl\">tiny-1.0-py3-none-any.whl</a>");
    index.put("/tiny-1.0-py3-none-any.whl", std::fs::read(&wheel).expect("it was taken home"));
    let pip = format!(
        "cd /root && pip download --index-url http://{address}/simple/ --trusted-host host.pyro.internal tiny && \
         pip install --break-system-packages --no-index ./tiny-1.0-py3-none-any.whl && python3 -m tiny"
    );
    slow(&workspace, &pip).assert_code(0).assert_stdout_has("tiny works");

    let crossings = workspace.verb("crossings", &[]).finish();
    crossings.assert_stdout_has("deb.debian.org").assert_stdout_has("tcp host.pyro.internal (");

    workspace.verb("snapshot create", &["installed"]).finish().assert_code(0);
    workspace.verb("reset", &["--snapshot", "installed"]).finish().assert_code(0);
    assert_eq!(workspace.sh("hello && python3 -m tiny"), "Hello, world!\ntiny works\n");
    workspace.verb("reset", &[]).finish().assert_code(0);
    workspace.exec(&["hello"]).finish().assert_code(127);
    workspace.delete();
    home.assert_nothing_left();
}

/// A command that fetches and unpacks, which takes an emulated guest a while.
fn slow(workspace: &Workspace<'_>, script: &str) -> Outcome {
    let exec = workspace.verb("exec", &["--timeout-seconds", "400", "--", "sh", "-c", script]);
    exec.limit(Duration::from_secs(420)).finish()
}
