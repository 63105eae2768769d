//! One tile of a picture of the Mandelbrot set, as raw RGB on stdout. `render-tile WIDTH HEIGHT X Y W H [MAX_ITERATIONS]`, or as
//! one task of an array `render-tile WIDTH HEIGHT tiles TILE [MAX_ITERATIONS]`.
//!
//! WIDTH x HEIGHT is the whole picture, X Y the tile's upper left corner in it, W x H its size: exactly `W * H * 3` bytes come out, row
//! by row. Colour is smooth in the escape time and lit by the distance to the set; four samples make a pixel. A pixel depends on
//! nothing but its place, so tiles fit together without a seam. 2 for arguments that make no tile.
//!
//! Of an array, each task renders the tile of its index (`HOLM_TASK_INDEX`): TILE x TILE pixels, cut off at the right and lower edge,
//! counted from the upper left, row by row.

use std::io::{self, Write};
use std::process::ExitCode;

const CENTRE: (f64, f64) = (-0.743_643_9, 0.131_825_9);
const SPAN: f64 = 0.0042;
const DEFAULT_ITERATIONS: u64 = 1500;
const ESCAPE: f64 = 1e4;

fn main() -> ExitCode {
    let Some(args) = arguments() else {
        return ExitCode::from(2);
    };
    let [width, height, x, y, w, h, rest @ ..] = args.as_slice() else {
        return ExitCode::from(2);
    };
    let inside = |at: u64, size: u64, whole: u64| {
        size > 0 && at.checked_add(size).is_some_and(|end| end <= whole && whole <= 1 << 16)
    };
    if rest.len() > 1 || !inside(*x, *w, *width) || !inside(*y, *h, *height) {
        return ExitCode::from(2);
    }
    let iterations = rest.first().copied().unwrap_or(DEFAULT_ITERATIONS);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = (*y..y + h).try_for_each(|row| {
        (*x..x + w).try_for_each(|column| out.write_all(&pixel(column, row, *width, *height, iterations)))
    });
    if written.and_then(|()| out.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The numbers of the first form, whichever form was given.
fn arguments() -> Option<Vec<u64>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers = |args: &[String]| args.iter().map(|arg| arg.parse().ok()).collect::<Option<Vec<u64>>>();
    let [width, height, word, tile, rest @ ..] = args.as_slice() else {
        return numbers(&args);
    };
    if word != "tiles" {
        return numbers(&args);
    }
    let index: u64 = std::env::var("HOLM_TASK_INDEX").ok()?.parse().ok()?;
    let (width, height, tile) = (width.parse::<u64>().ok()?, height.parse::<u64>().ok()?, tile.parse::<u64>().ok()?);
    let columns = width.checked_add(tile.checked_sub(1)?)? / tile;
    let x = index.checked_rem(columns)?.checked_mul(tile)?;
    let y = (index / columns).checked_mul(tile)?;
    let place = [width, height, x, y, tile.min(width.checked_sub(x)?), tile.min(height.checked_sub(y)?)];
    Some(place.into_iter().chain(numbers(rest)?).collect())
}

fn pixel(column: u64, row: u64, width: u64, height: u64, iterations: u64) -> [u8; 3] {
    let step = SPAN / width as f64;
    let mut sum = [0.0; 3];
    for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
        let re = CENTRE.0 + (column as f64 + dx - width as f64 / 2.0) * step;
        let im = CENTRE.1 - (row as f64 + dy - height as f64 / 2.0) * step;
        sample(re, im, iterations).iter().zip(&mut sum).for_each(|(part, sum)| *sum += part / 4.0);
    }
    sum.map(|part| (part.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8)
}

/// Linear light of one point: black inside the set, outside a cosine palette over the smooth escape time, lit from the upper left.
fn sample(re: f64, im: f64, iterations: u64) -> [f64; 3] {
    let (mut zr, mut zi, mut dr, mut di) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for n in 0..iterations {
        (dr, di) = (2.0 * (zr * dr - zi * di) + 1.0, 2.0 * (zr * di + zi * dr));
        (zr, zi) = (zr * zr - zi * zi + re, 2.0 * zr * zi + im);
        let norm = zr * zr + zi * zi;
        if norm > ESCAPE {
            let t = (n as f64 + 1.0 - (norm.ln() / ESCAPE.ln()).log2()).sqrt() * 0.22;
            // z/z' points away from the set: its angle to the light makes the relief.
            let (ur, ui) = (zr * dr + zi * di, zi * dr - zr * di);
            let light = ((ur * -0.707 + ui * 0.707) / ur.hypot(ui) + 1.3) / 2.3;
            return [0.00, 0.12, 0.26].map(|phase| {
                (0.5 + 0.5 * (std::f64::consts::TAU * (t + phase + 0.55)).cos()).powi(2) * (0.25 + 0.75 * light)
            });
        }
    }
    [0.0; 3]
}
