//! A page of a guest's web server, loaded through a published port by a real browser of this host, where there is one: several
//! connections at once, kept open, as browsers do.

use serde_json::json;
use vm_tests::{Home, Workspace, host_tools};

const PAGE: &str = r#"<!doctype html>
<title>of a guest</title>
<link rel="stylesheet" href="style.css">
<p id="seen">plain</p>
<img src="dot.svg">
<script src="page.js"></script>
"#;

const STYLE: &str = "#seen { color: rgb(1, 2, 3) }\n";

const SCRIPT: &str =
    "const seen = document.getElementById('seen');\nseen.textContent = 'styled ' + getComputedStyle(seen).color;\n";

const DOT: &str = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>\n";

#[test]
fn a_browser_loads_a_page_through_a_published_port() {
    let home = Home::shared();
    let Some(browser) = host_tools::browser() else {
        eprintln!("NOT TESTED: no browser is installed (chromium or google-chrome), so no page was loaded by one");
        return;
    };
    let workspace = Workspace::create(&home, &["--network-policy", "egress+published-ports"]);
    for (name, text) in [("index.html", PAGE), ("style.css", STYLE), ("page.js", SCRIPT), ("dot.svg", DOT)] {
        workspace.verb("file write", &[name, "--text", text]).finish().assert_code(0);
    }
    let start = ["web", "--ready-http", "http://localhost:8000/", "--ready-timeout-seconds", "90", "--publish", "8000"];
    let server = ["--json", "--", "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "8000"];
    let web = workspace.verb("service start", &start).args(&server).finish().json();
    assert_eq!(web["state"], json!("running"), "{web}");
    let port = &web["ports"][0]["host_port"];
    let shown = host_tools::browse(&browser, &format!("http://127.0.0.1:{port}/"));
    assert!(shown.contains("styled rgb(1, 2, 3)"), "the page is {shown}");
    let log = workspace.verb("service logs", &["web"]).finish();
    for name in ["/style.css", "/page.js", "/dot.svg"] {
        log.assert_stdout_has(&format!("\"GET {name} HTTP/1.1\" 200"));
    }
    workspace.delete();
    home.assert_nothing_left();
}
