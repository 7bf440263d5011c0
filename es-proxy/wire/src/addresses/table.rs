//! Addresses in the table that `_cat/nodes` writes: columns as wide as their widest cell, so a longer
//! address moves the columns after it, and nothing else.

use super::{NewAddress, UnknownListing};

/// Java counts the width of a cell in these.
type Line = Vec<u16>;

const BLANK: u16 = b' ' as u16;

pub(super) fn replace(table: &str, new: NewAddress<'_>) -> Result<Option<Vec<u8>>, UnknownListing> {
    let mut lines: Vec<Line> = table.split('\n').map(|line| line.encode_utf16().collect()).collect();
    let mut changed = false;
    let mut from = 0;
    while let Some(start) = lines.iter().filter_map(|line| address_from(line, from)).min() {
        from = start + replace_column(&mut lines, start, new, &mut changed)?;
    }
    if !changed {
        return Ok(None);
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| String::from_utf16(line).map_err(|_| UnknownListing))
        .collect::<Result<_, _>>()?;
    Ok(Some(lines.join("\n").into_bytes()))
}

/// Replaces the addresses of the column that begins at `start`; its width afterwards.
fn replace_column(
    lines: &mut [Line],
    start: usize,
    new: NewAddress<'_>,
    changed: &mut bool,
) -> Result<usize, UnknownListing> {
    let cells: Vec<Line> = lines.iter().map(|line| cell(line, start)).collect();
    let width = cells.iter().map(Vec::len).max().unwrap_or(0);
    let is_last = lines.iter().all(|line| line.len() <= start + width);
    let in_order = |line: &Line| {
        line.is_empty()
            || ((start == 0 || line.get(start - 1).is_none_or(|&before| before == BLANK))
                && line.get(start + width).is_none_or(|&after| after == BLANK)
                && (is_last || line.len() > start + width))
    };
    if !lines.iter().all(in_order) {
        return Err(UnknownListing);
    }
    let cells: Vec<Line> = cells
        .into_iter()
        .map(|old| {
            let text = String::from_utf16_lossy(&old);
            match is_address(&text).then(|| new(None, &text)).flatten() {
                Some(address) => {
                    *changed = true;
                    address.encode_utf16().collect()
                }
                None => old,
            }
        })
        .collect();
    let new_width = cells.iter().map(Vec::len).max().unwrap_or(0);
    for (line, mut cell) in lines.iter_mut().zip(cells) {
        if line.len() < start {
            continue;
        }
        if !is_last && !line.is_empty() {
            cell.resize(new_width, BLANK);
        }
        let end = line.len().min(start + width);
        line.splice(start..end, cell);
    }
    Ok(new_width)
}

/// What stands at `start` up to the next blank.
fn cell(line: &[u16], start: usize) -> Line {
    line.iter().skip(start).take_while(|&&unit| unit != BLANK).copied().collect()
}

/// Where the first address at or after `from` begins.
fn address_from(line: &[u16], from: usize) -> Option<usize> {
    let mut at = 0;
    line.split(|&unit| unit == BLANK).find_map(|word| {
        let start = at;
        at += word.len() + 1;
        (start >= from && is_address(&String::from_utf16_lossy(word))).then_some(start)
    })
}

/// `ip:port`, perhaps after `host/`. No other column of this table has a port behind an address.
fn is_address(word: &str) -> bool {
    let address = word.rsplit_once('/').map_or(word, |(_, address)| address);
    address.parse::<std::net::SocketAddr>().is_ok()
}
