//! The proxies of the docs' recipes, each started with the recipe itself in front of a server.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use crate::install::{self, Missing};
use crate::server::{await_accept, free_port};

/// A kind of proxy and its recipe.
#[derive(Clone, Copy)]
pub(crate) struct Recipe {
    /// Program, package and, in the logs, the proxy.
    name: &'static str,
    version: &'static str,
    text: &'static str,
    /// How the recipe names its port.
    listen: &'static str,
    command: fn(&Path, &Path) -> Command,
}

pub(crate) const NGINX: Recipe = Recipe {
    name: "nginx",
    version: "-v",
    text: include_str!("proxies/nginx.conf"),
    listen: "listen 80;",
    command: nginx,
};

pub(crate) const HAPROXY: Recipe = Recipe {
    name: "haproxy",
    version: "-v",
    text: include_str!("proxies/haproxy.cfg"),
    listen: "bind :80",
    command: haproxy,
};

pub(crate) const CADDY: Recipe = Recipe {
    name: "caddy",
    version: "version",
    text: include_str!("proxies/Caddyfile"),
    listen: "\n:80 {",
    command: caddy,
};

/// A running proxy; ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    process: Child,
}

impl Proxy {
    /// Starts the proxy in front of the server at `upstream`, a host and a port.
    pub(crate) fn start(recipe: Recipe, suite: &str, upstream: &str) -> Result<Self, Missing> {
        let Recipe { name, version, text, listen, command } = recipe;
        install::require(name, version, name)?;
        let folder = install::scratch(&format!("{suite}-proxy"));
        let _ = fs::remove_dir_all(&folder); // Absent on the first run.
        fs::create_dir_all(&folder).expect("the scratch folder takes a folder");
        let port = free_port();
        let mut text = replaced(text, listen, &listen.replacen("80", &port.to_string(), 1));
        text = replaced(&text, "127.0.0.1:5000", upstream);
        if name == "nginx" {
            text = nginx_without_system_folders(&text, &folder);
        }
        let config = folder.join("config");
        fs::write(&config, text).expect("the scratch folder takes a file");
        let log = folder.join("log");
        let output = File::create(&log).expect("the scratch folder takes a file");
        let mut process = command(&config, &folder)
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .expect("a program that has told its version starts");
        await_accept(port, &mut process, &log);
        Ok(Self { port, process })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the proxy accepts")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx has workers, which its master ends only if it may end by itself.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        for _ in 0..50 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A proxy in front of a server that a test plays itself.
pub(crate) struct Played {
    proxy: Proxy,
    upstream: TcpListener,
}

impl Played {
    pub(crate) fn start(recipe: Recipe, suite: &str) -> Result<Self, Missing> {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address: SocketAddr = upstream.local_addr().expect("a bound socket has an address");
        Ok(Self { proxy: Proxy::start(recipe, suite, &address.to_string())?, upstream })
    }

    /// Sends a request; gives the client's end, the server's, and the head that arrived there, in lower case.
    pub(crate) fn request(&self, request: &str) -> (TcpStream, TcpStream, String) {
        let mut client = self.proxy.connect();
        client.write_all(request.as_bytes()).expect("the proxy reads");
        let (mut server, _) = self.upstream.accept().expect("the proxy connects");
        server.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).expect("a whole head arrives");
            head.push(byte[0]);
        }
        (client, server, String::from_utf8_lossy(&head).to_lowercase())
    }
}

fn nginx(config: &Path, folder: &Path) -> Command {
    let mut nginx = Command::new("nginx");
    // Its workers would be nobody, who may not write in the target folder of just anyone.
    let user = if fs::metadata(folder).is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0) {
        "user root root;"
    } else {
        ""
    };
    let globals = format!("daemon off; pid {}; error_log stderr; {user}", folder.join("pid").display());
    nginx.arg("-p").arg(folder).arg("-c").arg(config).args(["-g", &globals]);
    nginx
}

/// Logs and spilled bodies lie in folders of the system, where a test may not write.
fn nginx_without_system_folders(text: &str, folder: &Path) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    let text = replaced(text, "http {\n", &format!("http {{\n{temporary}"));
    replaced(&text, "/var/log/nginx/access.log", &format!("{folder}/access.log"))
}

fn haproxy(config: &Path, _: &Path) -> Command {
    let mut haproxy = Command::new("haproxy");
    haproxy.arg("-db").arg("-f").arg(config);
    haproxy
}

fn caddy(config: &Path, folder: &Path) -> Command {
    let mut caddy = Command::new("caddy");
    caddy.arg("run").arg("--config").arg(config).args(["--adapter", "caddyfile"]);
    // A Caddy of the system may have the usual port of its administration.
    caddy.env("CADDY_ADMIN", format!("127.0.0.1:{}", free_port()));
    caddy.env("HOME", folder).env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder);
    caddy
}

/// A recipe that has lost the place for a value would be tested with another.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "the recipe says {from:?} once");
    text.replacen(from, to, 1)
}

const PATIENCE: Duration = Duration::from_secs(5);
