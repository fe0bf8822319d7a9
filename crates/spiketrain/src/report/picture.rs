//! Pixels as data URIs: PNG, then base64.

/// Kind of pixels handed to [`png_uri`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// One byte a pixel.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, opacity.
    Rgba,
}

impl Colour {
    /// Bytes a pixel.
    pub(super) fn n_channels(self) -> usize {
        match self {
            Colour::Grey => 1,
            Colour::Rgb => 3,
            Colour::Rgba => 4,
        }
    }

    fn png(self) -> png::ColorType {
        match self {
            Colour::Grey => png::ColorType::Grayscale,
            Colour::Rgb => png::ColorType::Rgb,
            Colour::Rgba => png::ColorType::Rgba,
        }
    }
}

/// An image `[row, column, channel]` as the address of an inline PNG; nothing if the bytes are
/// not such an image.
pub(super) fn png_uri(height: usize, width: usize, colour: Colour, bytes: &[u8]) -> Option<String> {
    let n = height.checked_mul(width)?.checked_mul(colour.n_channels())?;
    if n == 0 || n != bytes.len() {
        return None;
    }
    let mut file = Vec::new();
    let mut encoder =
        png::Encoder::new(&mut file, u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    encoder.set_color(colour.png());
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(bytes).ok()?;
    writer.finish().ok()?;
    Some(format!("data:image/png;base64,{}", base64(&file)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        let cases = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(cases.map(|c| base64(c.as_bytes())), expected);
    }

    #[test]
    fn bytes_that_are_no_image_give_nothing() {
        assert!(png_uri(2, 2, Colour::Grey, &[0; 4]).is_some());
        assert!(png_uri(2, 2, Colour::Rgb, &[0; 4]).is_none());
        assert!(png_uri(0, 2, Colour::Grey, &[]).is_none());
        assert!(png_uri(usize::MAX, 2, Colour::Rgba, &[0; 4]).is_none());
    }
}
