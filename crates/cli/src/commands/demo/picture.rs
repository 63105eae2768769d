//! The picture: a scheduler *component* has it rendered in tiles, and this program puts the tiles together.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, bail};
use holm_host::Hosted;
use holm_proto::v1;
use holm_sdk::{Driver, OnFinish};
use tokio::sync::mpsc;

use super::Setting;
use super::outputs::{self, Output};
use super::pool::part_of;
use super::progress::Progress;

/// The role in which tiles are rendered.
pub(super) const ROLE: &str = "render";
/// Edge of a tile, in pixels.
const TILE: u32 = 32;
const ITERATIONS: u32 = 1500;
/// How many tiles an agent renders at a time.
const TASKS_PER_AGENT: u64 = 3;
const MEMORY: u64 = 16 << 20;
/// How long the framework's logs can be read after it has finished.
const LINGER: std::time::Duration = std::time::Duration::from_secs(60);
/// Bytes of a pixel.
const PIXEL: usize = 3;

/// What was rendered.
pub(super) struct Rendered {
    pub(super) picture: Picture,
    pub(super) tiles: u64,
    pub(super) fuel: u64,
}

/// Has the picture rendered on the cluster.
pub(super) async fn run(setting: &Setting, size: (u32, u32), progress: &Progress) -> anyhow::Result<Rendered> {
    let module = setting.client.push(holm_test_programs::RENDER_TILE_P2_WASM).await?.digest;
    let resources = part_of(&setting.agent, TASKS_PER_AGENT, MEMORY);
    let (width, height) = size;
    let config = format!(
        "module={module}\nwidth={width}\nheight={height}\ntile={TILE}\niterations={ITERATIONS}\nresources={resources}\n\
         tasks-per-slot=4\n"
    );
    let options = holm_host::Options {
        config: config.into_bytes(),
        roles: vec![ROLE.parse()?],
        failover_timeout: Some(LINGER),
        ..holm_host::Options::default()
    };
    let hosted = Hosted::start(holm_test_programs::TILES_SCHEDULER_WASM.to_vec(), options).await?;
    // Its logs are read to the end before it is torn down.
    let (driver, mut handle) = Driver::new(holm_sdk::Options { on_finish: OnFinish::Leave, ..setting.sdk_options() })?;
    let hosting = tokio::spawn(holm_host::run(hosted, driver));
    let framework = handle.registered().await.context("the picture's scheduler could not be registered")?.framework;
    let (sender, outputs) = mpsc::channel(16);
    let collecting = tokio::spawn(outputs::collect(setting.client.clone(), framework, sender));
    let picture = assemble(Picture::new(width, height), outputs, progress).await?;
    let outcome = hosting.await??;
    collecting.abort();
    let request = v1::TeardownFrameworkRequest { framework_id: framework.to_string() };
    setting.client.operator().teardown_framework(request).await.map_err(crate::connection::refusal)?;
    let report = String::from_utf8_lossy(&outcome.report).into_owned();
    let number = |key: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Ok(Rendered { picture, tiles: number("tiles"), fuel: number("fuel") })
}

async fn assemble(
    mut picture: Picture,
    mut outputs: mpsc::Receiver<Output>,
    progress: &Progress,
) -> anyhow::Result<Picture> {
    progress.tiles.set_length(picture.tiles().into());
    while picture.missing > 0 {
        let Some(Output { task, bytes }) = outputs.recv().await else { bail!("the tiles cannot be read") };
        let Some(index) = task.index else { bail!("{task} is no tile") };
        // A tile that failed on the way is rendered again; its half is not a tile.
        if picture.place(index, &bytes) {
            progress.tiles.inc(1);
        }
    }
    Ok(picture)
}

/// Pixels, red, green and blue, row by row.
pub(super) struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    placed: Vec<bool>,
    missing: u32,
}

impl Picture {
    fn new(width: u32, height: u32) -> Picture {
        let tiles = width.div_ceil(TILE) * height.div_ceil(TILE);
        let pixels = vec![0; width as usize * height as usize * PIXEL];
        Picture { width, height, pixels, placed: vec![false; tiles as usize], missing: tiles }
    }

    fn tiles(&self) -> u32 {
        self.width.div_ceil(TILE) * self.height.div_ceil(TILE)
    }

    /// Puts a tile in its place; false when it is not one, or there already.
    fn place(&mut self, index: u32, bytes: &[u8]) -> bool {
        let columns = self.width.div_ceil(TILE);
        let (x, y) = (index % columns * TILE, index / columns * TILE);
        if self.placed.get(index as usize) != Some(&false) {
            return false;
        }
        let (width, height) = (TILE.min(self.width - x) as usize, TILE.min(self.height - y) as usize);
        if bytes.len() != width * height * PIXEL {
            return false;
        }
        for (row, line) in bytes.chunks_exact(width * PIXEL).enumerate() {
            let at = ((y as usize + row) * self.width as usize + x as usize) * PIXEL;
            self.pixels[at..at + line.len()].copy_from_slice(line);
        }
        self.placed[index as usize] = true;
        self.missing -= 1;
        true
    }

    /// Writes the picture as PNG.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("picture {} cannot be written", path.display());
        let file = File::create(path).with_context(context)?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().with_context(context)?;
        writer.write_image_data(&self.pixels).with_context(context)?;
        writer.finish().with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_make_a_picture() {
        let mut picture = Picture::new(TILE + 8, TILE + 4);
        assert_eq!(picture.tiles(), 4);
        let sizes = [(TILE, TILE), (8, TILE), (TILE, 4), (8, 4)];
        for (index, (width, height)) in (0..).zip(sizes) {
            let tile = vec![u8::try_from(index).unwrap() + 1; (width * height) as usize * PIXEL];
            assert!(!picture.place(index, &tile[1..]), "a short tile was placed");
            assert!(picture.place(index, &tile));
            assert!(!picture.place(index, &tile), "a tile was placed twice");
        }
        assert!(!picture.place(4, &[]));
        assert_eq!(picture.missing, 0);
        let row = &picture.pixels[..(TILE as usize + 8) * PIXEL];
        assert_eq!((row[0], row[TILE as usize * PIXEL]), (1, 2));
        assert_eq!(picture.pixels.last(), Some(&4));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        picture.save(&path).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(File::open(&path).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, picture.pixels);
    }
}
