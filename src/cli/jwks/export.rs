//! `hallmark jwks export`: the documents as files, for a static host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use hallmark_client::{Client, DocumentKind, Error, JwksUpdate, PublishedDocument, Remedy};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::{
    Failure,
    args::JwksExportArgs,
    connect::{As, connect, failure},
    output::Output,
};

pub(super) async fn run(args: JwksExportArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let client = connect(connection, As::Operator)?;
    let mut export = Export::new(&args)?;
    let mut delay = FIRST_DELAY;
    loop {
        match follow(&client, &mut export, args.watch, json).await? {
            None => return Ok(0),
            Some(Lost(error)) => {
                // A program that starts it anew would lose nothing either; but most have none.
                eprintln!("warning: hallmark can't be followed: {error}; trying on");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_DELAY);
            }
        }
    }
}

/// Hallmark went away, and may come back.
struct Lost(Error);

/// Writes what is published; with `watch`, whatever it becomes. `None`: it is all written.
async fn follow(client: &Client, export: &mut Export, watch: bool, json: bool) -> Result<Option<Lost>, Failure> {
    let failed = |error: Error| match watch && error.remedy() == Remedy::RetryLater {
        true => Ok(Some(Lost(error))),
        false => Err(failure(&error, "CLIENT")),
    };
    let mut updates = match client.watch_jwks("").await {
        Ok(updates) => updates,
        Err(error) => return failed(error),
    };
    loop {
        let update = match updates.next().await {
            Ok(Some(update)) => update,
            // It asks to be followed anew.
            Ok(None) => return Box::pin(follow(client, export, watch, json)).await,
            Err(error) => return failed(error),
        };
        let written = export.take(update)?;
        eprint!("{}", export.warn_anew());
        if let Some(written) = written {
            written.output(&export.dir, &export.warned, json).print()?;
        }
        if !watch {
            return Ok(None);
        }
    }
}

/// The folder, and what is to be in it.
struct Export {
    dir: PathBuf,
    /// Empty: all.
    clients: BTreeSet<String>,
    /// Those that can't be exported, as was said last.
    left_out: BTreeSet<String>,
    documents: BTreeMap<String, PublishedDocument>,
    /// What was written last, by this run or an earlier one.
    manifest: Manifest,
    /// The clients of the last warning.
    warned: BTreeSet<String>,
}

/// `hallmark-manifest.json`: what a static host has to serve, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    public_url: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    client: String,
    /// The generation of the server that brought it; for people who compare with its metrics.
    generation: u64,
    etag: String,
    headers: BTreeMap<String, String>,
}

/// What one update changed in the folder.
#[derive(Debug, Default)]
struct Written {
    files: Vec<String>,
    removed: Vec<String>,
    generation: u64,
}

impl Export {
    fn new(args: &JwksExportArgs) -> Result<Self, Failure> {
        let dir = args.dir.clone();
        fs::create_dir_all(&dir).map_err(|error| unwritten(&dir, &error))?;
        let path = dir.join(MANIFEST);
        let manifest = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let text = format!("can't read what an earlier export left: `{}`", path.display());
                Failure::new(text).caused_by(&error).hint("export into an empty folder, and compare")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(unwritten(&path, &error)),
        };
        Ok(Self {
            dir,
            clients: args.clients.iter().cloned().collect(),
            left_out: BTreeSet::new(),
            documents: BTreeMap::new(),
            manifest,
            warned: BTreeSet::new(),
        })
    }

    /// Brings the folder up to date. `None`: it is.
    fn take(&mut self, update: JwksUpdate) -> Result<Option<Written>, Failure> {
        if update.whole {
            self.documents.clear();
        }
        for path in &update.withdrawn {
            self.documents.remove(path);
        }
        let of_interest = |document: &PublishedDocument| {
            (self.clients.is_empty() || self.clients.contains(&document.client))
                // No longer configured: kept up to date where it was exported, and not begun.
                && (document.edge_ttl.is_some() || self.manifest.files.contains_key(&document.path))
        };
        let documents: Vec<_> = update.documents.into_iter().filter(of_interest).collect();
        self.documents.extend(documents.into_iter().map(|document| (document.path.clone(), document)));
        self.tell_left_out(update.left_out)?;
        self.check()?;
        self.write(&update.public_url, update.max_age, update.generation)
    }

    /// Says so once; fails where one of them was asked for.
    fn tell_left_out(&mut self, left_out: Vec<String>) -> Result<(), Failure> {
        let left_out: BTreeSet<_> = left_out.into_iter().collect();
        if let Some(client) = self.clients.intersection(&left_out).next() {
            let text = format!("client `{client}` can't be exported: {FIRST_RSA_KEY}");
            return Err(Failure::new(text).hint("serve its JWKS by Hallmark, at the URL of `hallmark jwks CLIENT`"));
        }
        if self.clients.is_empty() && left_out != self.left_out && !left_out.is_empty() {
            let clients = Vec::from_iter(left_out.iter().map(String::as_str)).join("`, `");
            eprintln!("warning: left out: `{clients}`: {FIRST_RSA_KEY}; Hallmark alone serves it");
        }
        self.left_out = left_out;
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let all = || self.documents.values();
        if let Some(absent) = self.clients.iter().find(|client| !all().any(|document| document.client == **client)) {
            let text = format!("nothing is published for client `{absent}`");
            return Err(Failure::new(text).hint("see what there is: hallmark keys list"));
        }
        let uncached = all().filter(|document| document.edge_ttl.is_some_and(|ttl| ttl.is_zero()));
        let uncached: BTreeSet<_> = uncached.map(|document| document.client.as_str()).collect();
        if uncached.is_empty() {
            return Ok(());
        }
        let clients: Vec<_> = uncached.into_iter().collect();
        let text = format!("can't export what has no `edge_ttl`: client `{}`", clients.join("`, `"));
        let why = "a static host and its caches show a change late, and a new key must not sign before they do";
        let hint =
            "set `edge_ttl` in each [[client]] to how long the host may show an old document, reload, and export again";
        Err(Failure::new(text).because(why).hint(hint))
    }

    /// The warning of clients whose new keys do not wait for this host, where they are others than when it was given last.
    fn warn_anew(&mut self) -> String {
        let all = self.documents.values();
        let unseen = all.filter(|document| document.jwks_host.as_deref().is_some_and(|host| host != "static"));
        let unseen: BTreeSet<_> = unseen.map(|document| document.client.clone()).collect();
        let is_old = unseen == self.warned;
        self.warned = unseen;
        if is_old || self.warned.is_empty() {
            return String::new();
        }
        let clients: Vec<_> = self.warned.iter().map(String::as_str).collect();
        format!(
            "warning: new keys do not wait until this host has them: client `{}`\nhint: set `jwks_host = \"static\"` in \
             each such [[client]], and reload: the server then looks at the public URL itself\n",
            clients.join("`, `")
        )
    }

    fn write(&mut self, public_url: &str, max_age: Duration, generation: u64) -> Result<Option<Written>, Failure> {
        let mut written = Written { generation, ..Written::default() };
        let mut files = BTreeMap::new();
        for (path, document) in &self.documents {
            let file = below(&self.dir, path)?;
            let before = self.manifest.files.get(path);
            let is_there = before.is_some_and(|entry| entry.etag == document.etag)
                && fs::read(&file).is_ok_and(|bytes| bytes == document.body);
            if !is_there {
                replace(&file, &document.body).map_err(|error| unwritten(&file, &error))?;
                written.files.push(path.clone());
            }
            let since = before.filter(|_| is_there).map_or(generation, |entry| entry.generation);
            files.insert(path.clone(), entry(document, max_age, since));
        }
        // Only what an export of ours has put there.
        for path in self.manifest.files.keys().filter(|path| !files.contains_key(*path)) {
            let file = below(&self.dir, path)?;
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritten(&file, &error)),
                _ => written.removed.push(path.clone()),
            }
        }
        let manifest = Manifest { public_url: public_url.to_owned(), files };
        if manifest == self.manifest {
            return Ok(None);
        }
        // Last: whoever copies by it finds all that it names.
        let (path, text) = (self.dir.join(MANIFEST), format!("{:#}\n", json!(manifest)));
        replace(&path, text.as_bytes()).map_err(|error| unwritten(&path, &error))?;
        self.manifest = manifest;
        Ok(Some(written))
    }
}

fn entry(document: &PublishedDocument, max_age: Duration, generation: u64) -> Entry {
    let content_type = match document.kind {
        DocumentKind::Pem => "application/x-pem-file",
        _ => "application/json",
    };
    // A static host can't count down. It need not: a key that is to sign was seen at the URL for this long before.
    let edge = document.edge_ttl.unwrap_or_default().as_secs();
    let kept = format!("public, max-age={}, s-maxage={edge}", max_age.as_secs());
    let headers = [("Cache-Control", kept.as_str()), ("Content-Type", content_type)];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Entry { client: document.client.clone(), generation, etag: document.etag.clone(), headers }
}

impl Written {
    /// `unseen`: the clients whose new keys do not wait for the host.
    fn output(&self, dir: &Path, unseen: &BTreeSet<String>, json: bool) -> Output {
        let Self { files, removed, generation } = self;
        if json {
            return Output::json(&json!({
                "generation": generation, "written": files, "removed": removed, "not_waited_for": unseen,
            }));
        }
        let (dir, count) = (dir.display(), files.len());
        let gone = if removed.is_empty() { String::new() } else { format!(", {} removed", removed.len()) };
        let stdout = format!("{count} written{gone} in {dir}; {MANIFEST} says with which headers to serve them\n");
        Output { stdout, stderr: String::new() }
    }
}

/// The file of a URL's path. The server checks its paths; what writes files checks again.
fn below(dir: &Path, path: &str) -> Result<PathBuf, Failure> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || relative.as_os_str().is_empty() || relative == Path::new(MANIFEST) {
        return Err(Failure::new(format!("the server publishes at a path that is no file's: `{path}`")));
    }
    Ok(dir.join(relative))
}

/// Whoever reads the file has the old bytes or the new ones.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("can't write the export: `{}`", path.display())).caused_by(error)
}

const FIRST_RSA_KEY: &str =
    "its verifiers take the first RSA key of the set, and would sooner or later find the one of before";
const MANIFEST: &str = "hallmark-manifest.json";
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
