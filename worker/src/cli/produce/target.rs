//! Where `--to` points, and how files are cut there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use evp_api::plan::{S3Plan, SecretKeyRef, StoragePath};

use super::{Error, ProduceArgs};
use crate::secrets::Secrets;
use crate::store::Storage;

/// Rows of a file, and how long it may stay open, where nothing is said.
const ROWS: u64 = 100;
const EVERY: Duration = Duration::from_secs(10);

/// Of files: how they are cut and, of a bucket, how it is reached.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// Rows of a file; absent: 100, and JSON lines below dir: without an end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub file_rows: Option<u64>,
    /// A file ends at the latest so long after its first row; absent: 10s where files have a number of rows.
    #[arg(long, value_name = "DURATION", value_parser = evp_api::plan::parse_duration)]
    pub file_every: Option<Duration>,
    /// Of a bucket: address of the service; absent: AWS, or what the environment says.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Of a bucket: its region; absent: what the environment says, or us-east-1 with --endpoint.
    #[arg(long)]
    pub region: Option<String>,
    /// Of a bucket: the Secret below --secrets that holds `accessKeyId` and `secretAccessKey`; absent: the environment's
    /// credentials.
    #[arg(long, value_name = "NAME")]
    pub s3_secret: Option<String>,
    /// Folder of Secrets: `<name>/<key>`.
    #[arg(long, value_name = "DIR", default_value = "./secrets")]
    pub secrets: PathBuf,
}

/// Where events go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Kafka { servers: String, topic: String },
    Files(Place),
}

/// Where files go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Dir(PathBuf),
    Bucket(StoragePath),
}

/// When a file is ended and the next one begun. `None`: never.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Cut {
    pub(super) rows: Option<u64>,
    pub(super) every: Option<Duration>,
}

/// What `--to` means; what belongs to another kind of target is refused.
pub(super) fn target(args: &ProduceArgs) -> Result<Target, Error> {
    let target = parse(&args.to)?;
    let FileArgs {
        file_rows,
        file_every,
        endpoint,
        region,
        s3_secret,
        secrets: _,
    } = &args.files;
    let is_cut = file_rows.is_some() || file_every.is_some();
    let names_s3 = endpoint.is_some() || region.is_some() || s3_secret.is_some();
    let wrong = |flags: &str, of: &str| {
        Err(Error::Usage(format!(
            "{flags} mean something for --to {of}, and --to is {}",
            args.to
        )))
    };
    match target {
        Target::Kafka { .. } if is_cut => wrong("--file-rows and --file-every", "dir:… and s3://…"),
        Target::Kafka { .. } | Target::Files(Place::Dir(_)) if names_s3 => {
            wrong("--endpoint, --region and --s3-secret", "s3://…")
        }
        target => Ok(target),
    }
}

/// By its prefix.
pub(super) fn parse(to: &str) -> Result<Target, Error> {
    let wrong = || {
        Error::Usage(format!(
            "--to {to}: kafka://host:port/topic, dir:PATH or s3://bucket/prefix is expected"
        ))
    };
    if let Some(path) = to.strip_prefix("dir:").filter(|p| !p.is_empty()) {
        return Ok(Target::Files(Place::Dir(path.into())));
    }
    if to.starts_with("s3://") {
        let path = to.parse().map_err(|_| wrong())?;
        return Ok(Target::Files(Place::Bucket(path)));
    }
    let (servers, topic) = to
        .strip_prefix("kafka://")
        .and_then(|r| r.split_once('/'))
        .ok_or_else(wrong)?;
    if servers.is_empty() || topic.is_empty() || topic.contains('/') {
        return Err(wrong());
    }
    Ok(Target::Kafka {
        servers: servers.to_owned(),
        topic: topic.to_owned(),
    })
}

impl Cut {
    /// As the arguments say. JSON lines below a folder are one file, unless somebody asks for more.
    pub(super) fn of(args: &ProduceArgs, place: &Place) -> Self {
        let FileArgs {
            file_rows,
            file_every,
            ..
        } = &args.files;
        let is_one = args.template.columns().is_none()
            && matches!(place, Place::Dir(_))
            && file_rows.is_none()
            && file_every.is_none();
        if is_one {
            return Self::default();
        }
        Self {
            rows: Some(file_rows.unwrap_or(ROWS)),
            every: Some(file_every.unwrap_or(EVERY)),
        }
    }
}

/// How the bucket is reached.
pub(super) fn storage(args: &FileArgs) -> Storage {
    let key = |name: &str, key: &str| SecretKeyRef {
        name: name.to_owned(),
        key: key.to_owned(),
    };
    let ambient = |name| std::env::var(name).ok();
    let endpoint = args.endpoint.clone();
    let region = args.region.clone().or_else(|| ambient("AWS_REGION"));
    let keys = args
        .s3_secret
        .as_ref()
        .map(|name| (key(name, "accessKeyId"), key(name, "secretAccessKey")));
    let is_ambient = endpoint.is_none() && args.region.is_none() && keys.is_none();
    let plan = S3Plan {
        region: region
            .or_else(|| ambient("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".to_owned()),
        allow_http: endpoint.as_ref().is_some_and(|e| e.starts_with("http://")),
        endpoint,
        ca: None,
        keys,
    };
    let plan = (!is_ambient).then_some(plan);
    Storage::new(plan, Secrets::new(Path::new(&args.secrets)), Vec::new())
}
