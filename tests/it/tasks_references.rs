//! G1: of a task's reference images (参考图) hash and thumbnail are kept, and never the images.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::wait_until;
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    g1_a_task_keeps_hash_and_thumbnail_of_its_reference_images,
    g1_thumbnails_outlive_the_master_key_and_go_with_their_task,
);

/// A picture in one colour.
fn picture(colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    RgbImage::from_pixel(1_000, 500, Rgb(colour)).write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn references(studio: &Studio, id: &Value) -> Vec<Value> {
    let path = format!("/api/tasks/{}/references", id.as_str().unwrap());
    studio.get(&path)["data"].as_array().unwrap().clone()
}

/// Once so many thumbnails are there.
fn with_thumbnails(studio: &Studio, id: &Value, expected: usize) -> Vec<Value> {
    let made = || references(studio, id).iter().filter(|one| one["thumbnail"].is_string()).count();
    wait_until("the thumbnails are made", || made() == expected);
    references(studio, id)
}

/// Width, height and colour of the middle.
fn seen(reference: &Value) -> (u32, u32, [u8; 3]) {
    assert_eq!(reference["media_type"], "image/jpeg");
    let bytes = BASE64.decode(reference["thumbnail"].as_str().unwrap()).unwrap();
    let small = image::load_from_memory(&bytes).unwrap().to_rgb8();
    (small.width(), small.height(), small.get_pixel(small.width() / 2, small.height() / 2).0)
}

#[track_caller]
fn assert_seen(reference: &Value, colour: [u8; 3]) {
    let (width, height, middle) = seen(reference);
    assert_eq!((width, height), (128, 64));
    assert!(middle.into_iter().zip(colour).all(|(is, should)| is.abs_diff(should) < 12), "{middle:?}");
}

/// What it holds is given back.
fn cancel(studio: &Studio, video: &Value) {
    let path = format!("/v1/videos/{}", video.as_str().unwrap());
    studio.ask(&Ask::new("DELETE", path).bearer(&studio.key)).ok();
}

/// Files of forms, in both lanes, and a picture within JSON; what is no picture has its hash alone.
fn g1_a_task_keeps_hash_and_thumbnail_of_its_reference_images(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let (red, blue) = (picture([200, 0, 0], ImageFormat::Jpeg), picture([0, 0, 200], ImageFormat::Png));
    let text = |name, value: &'static str| (name, None, value.as_bytes());
    let edit = [
        text("model", "demo-image"),
        text("prompt", "with a hat"),
        ("image[]", Some("a.jpg"), &*red),
        ("image[]", Some("b.png"), b"no picture"),
        ("image[]", Some("c.png"), &*blue),
    ];
    let task = studio.ask(&Ask::form("/v1/images", &edit).bearer(&studio.key)).ok();
    let kept = with_thumbnails(&studio, &task["id"], 2);
    let hashes: Vec<_> = kept.iter().map(|one| one["sha256"].as_str().unwrap()).collect();
    assert_eq!(hashes, [sha256(&red), sha256(b"no picture"), sha256(&blue)]);
    assert_seen(&kept[0], [200, 0, 0]);
    assert_eq!((&kept[1]["thumbnail"], &kept[1]["media_type"]), (&Value::Null, &Value::Null));
    assert_seen(&kept[2], [0, 0, 200]);
    studio.drawn(task["id"].as_str().unwrap());
    let row = studio.task(task["id"].as_str().unwrap());
    assert_eq!(row["reference_hashes"], json!(hashes));

    let video = [
        text("model", "demo-video"),
        text("prompt", "a cat"),
        text("seconds", "4"),
        ("input_reference", Some("a.jpg"), &*red),
    ];
    let task = studio.ask(&Ask::form("/v1/videos", &video).bearer(&studio.key)).ok();
    assert_seen(&with_thumbnails(&studio, &task["id"], 1)[0], [200, 0, 0]);
    cancel(&studio, &task["id"]);
    let address = format!("data:image/png;base64,{}", BASE64.encode(&blue));
    for (reference, expected) in [
        (json!(address), 1),
        (json!({"image_url": address}), 1),
        (json!({"file_id": "file-1"}), 0),
        (json!("https://pictures.example.com/a.png"), 0),
    ] {
        let body =
            json!({"model": "demo-video", "prompt": "a dog", "seconds": "4", "input_reference": reference});
        let task = studio.ask(&Ask::post("/v1/videos", &body).bearer(&studio.key)).ok();
        let kept = with_thumbnails(&studio, &task["id"], expected);
        assert_eq!(kept.len(), 1, "{reference}");
        if expected == 1 {
            assert_seen(&kept[0], [0, 0, 200]);
        }
        cancel(&studio, &task["id"]);
    }
}

fn g1_thumbnails_outlive_the_master_key_and_go_with_their_task(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let blue = picture([0, 0, 200], ImageFormat::WebP);
    let form = [
        ("model", None, &b"demo-image"[..]),
        ("prompt", None, b"with a hat"),
        ("image", Some("a.webp"), &*blue),
    ];
    let task = studio.ask(&Ask::form("/v1/images", &form).bearer(&studio.key)).ok();
    let id = task["id"].clone();
    let kept = with_thumbnails(&studio, &id, 1);
    studio.drawn(id.as_str().unwrap());
    studio.restart();
    let digits = "08".repeat(32);
    studio.post("/api/master-key/rotation", json!({"key": digits})).ok();
    wait_until("the turn has ended", || studio.get("/api/master-key/rotation")["state"] == "done");
    assert_eq!(references(&studio, &id), kept);

    let delete = Ask::new("DELETE", format!("/v1/images/{}", id.as_str().unwrap()));
    studio.ask(&delete.bearer(&studio.key)).ok();
    let left = references(&studio, &id);
    assert_eq!((&left[0]["sha256"], &left[0]["thumbnail"]), (&json!(sha256(&blue)), &Value::Null));
}
