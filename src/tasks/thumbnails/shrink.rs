//! A small picture of a picture (PNG, JPEG, WebP). No I/O.
//!
//! Promises: whatever the bytes are, no more than [`DECODED_BYTES_MAX`] is taken for what they decode to; the small picture
//! shows how the large one looks and tells nothing else of it: it has none of its metadata.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};

/// What a thumbnail is.
pub const MEDIA_TYPE: &str = "image/jpeg";
/// Its longer side, at the most, in pixels.
const SIDE_MAX: u32 = 128;
/// JPEG quality, of 100.
const QUALITY: u8 = 75;
/// Longest side of a picture that is shrunk, in pixels.
const SIDE_TAKEN_MAX: u32 = 16_384;
/// A picture of 50 megapixels in three colours is shrunk.
const DECODED_BYTES_MAX: u64 = 160 * 1024 * 1024;

/// `None`: it is no picture of these formats, or too large a one.
pub fn shrink(picture: &[u8]) -> Option<Vec<u8>> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_TAKEN_MAX);
    limits.max_image_height = Some(SIDE_TAKEN_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    let mut reader = ImageReader::new(Cursor::new(picture)).with_guessed_format().ok()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        return None;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let whole = DynamicImage::from_decoder(decoder).ok()?;
    let is_small = whole.width() <= SIDE_MAX && whole.height() <= SIDE_MAX;
    let mut small = if is_small { whole } else { whole.thumbnail(SIDE_MAX, SIDE_MAX) };
    small.apply_orientation(orientation);
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, QUALITY).encode_image(&on_white(&small)).ok()?;
    Some(out)
}

/// JPEG knows no transparency.
fn on_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0;
        let over_white = |colour: u8| {
            let mixed = u32::from(colour) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
            u8::try_from(mixed / 255).unwrap_or(u8::MAX)
        };
        Rgb([red, green, blue].map(over_white))
    })
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    /// Left half red, right half transparent.
    fn picture(width: u32, height: u32) -> DynamicImage {
        let half = |x| if x < width / 2 { [255, 0, 0, 255] } else { [0, 0, 0, 0] };
        RgbaImage::from_fn(width, height, |x, _| Rgba(half(x))).into()
    }

    fn is_near(pixel: [u8; 3], expected: [u8; 3]) -> bool {
        pixel.into_iter().zip(expected).all(|(is, should)| is.abs_diff(should) < 12)
    }

    #[test]
    fn g1_a_picture_of_any_format_becomes_a_small_one() {
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let small = shrink(&encoded(&picture(640, 320), format)).unwrap();
            assert!(small.len() < 4_096, "{format:?}: {}", small.len());
            let seen = image::load_from_memory(&small).unwrap().to_rgb8();
            assert_eq!((seen.width(), seen.height()), (128, 64), "{format:?}");
            assert!(
                is_near(seen.get_pixel(10, 32).0, [255, 0, 0])
                    && is_near(seen.get_pixel(120, 32).0, [255; 3])
            );
        }
        let jpeg = encoded(&picture(40, 20).to_rgb8().into(), ImageFormat::Jpeg);
        let small = image::load_from_memory(&shrink(&jpeg).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (40, 20), "what is small stays as it is");
    }

    /// A camera that was held upright says so beside the picture; where it stood is not told on.
    #[test]
    fn g1_a_picture_is_turned_as_it_says_and_its_metadata_is_left_behind() {
        let jpeg = encoded(&picture(40, 20).to_rgb8().into(), ImageFormat::Jpeg);
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let turned = [&jpeg[..2], b"\xff\xe1", &length, exif, &jpeg[2..]].concat();
        let small = shrink(&turned).unwrap();
        let seen = image::load_from_memory(&small).unwrap();
        assert_eq!((seen.width(), seen.height()), (20, 40));
        assert!(!small.windows(4).any(|window| window == b"Exif"));
    }

    #[test]
    fn g1_what_is_no_picture_or_would_be_too_large_has_none() {
        let png = encoded(&picture(64, 64), ImageFormat::Png);
        assert_eq!(shrink(b""), None);
        assert_eq!(shrink(b"a cat"), None);
        assert_eq!(shrink(&png[..png.len() / 2]), None);
        // A small file that says that it is large: width and height stand behind the signature and the chunk's head.
        for side in [16_385_u32, 60_000, u32::MAX] {
            let mut bomb = png.clone();
            bomb[16..20].copy_from_slice(&side.to_be_bytes());
            bomb[20..24].copy_from_slice(&side.to_be_bytes());
            let crc = crc32fast::hash(&bomb[12..29]).to_be_bytes();
            bomb[29..33].copy_from_slice(&crc);
            assert_eq!(shrink(&bomb), None, "{side}");
        }
    }
}
