//! Whether the storage that the settings name can be used, asked before a gateway runs (`doctor config`) and when it starts.
//!
//! Must never: make a folder, which would be that of whoever asks, or leave anything behind.

use super::disk::Disk;
use super::lane::Carrier;
use super::s3::S3;
use crate::config::{self, CopiesTo};

/// What was found, for operators.
pub struct Examined {
    /// `disk` or `s3`.
    pub to: &'static str,
    pub works: bool,
    pub text: String,
}

/// `None`: no copies are kept.
pub fn examine(settings: &config::Copies) -> Option<Examined> {
    let (to, found) = match settings.to {
        CopiesTo::None => return None,
        CopiesTo::Disk => ("disk", of_folder(settings)),
        CopiesTo::S3 => ("s3", of_bucket(settings)),
    };
    let works = found.is_ok();
    Some(Examined { to, works, text: found.unwrap_or_else(|why| why) })
}

fn of_folder(settings: &config::Copies) -> Result<String, String> {
    let folder = settings.dir.as_deref().ok_or("no folder is set")?;
    let shown = folder.display();
    if !folder.exists() {
        return Ok(format!("the folder {shown} is not there yet; the gateway makes it when it starts"));
    }
    Disk::probe(folder).map_err(|why| format!("the folder {shown} cannot be used: {why}"))?;
    Ok(format!("the folder {shown} can be written to"))
}

fn of_bucket(settings: &config::Copies) -> Result<String, String> {
    let s3 = S3::open(settings).map_err(|why| format!("the storage: {why}"))?;
    let s3 = s3.ok_or("no bucket is set")?;
    let carrier = Carrier::new().map_err(|why| why.to_string())?;
    carrier.run(s3.check(&carrier.via)).map_err(|why| format!("the bucket cannot be used: {why}"))?;
    Ok("an object was put into the bucket, read and deleted".to_owned())
}
