//! Which rows of a long list are in the document.
//!
//! Only those in view and a few around them, plus the one that has the keyboard focus: if that
//! were taken out, the focus would fall to the page and the next key would go nowhere.

/// Rows kept above and below the view, so that a short scroll shows no blank.
const OVERSCAN: usize = 10;

/// A piece of the list: a row, or the blank that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    Row(usize),
    /// As high as this many rows. `before` tells the blanks apart.
    Blank {
        before: usize,
        rows: usize,
    },
}

/// The rows to show, first to one past the last, for a view of `view_px` scrolled to `top_px`.
pub fn in_view(total: usize, row_px: f64, top_px: f64, view_px: f64) -> (usize, usize) {
    let first = (top_px.max(0.0) / row_px) as usize;
    let rows = (view_px.max(0.0) / row_px).ceil() as usize;
    let first = first.min(total);
    (first.saturating_sub(OVERSCAN), (first + rows + OVERSCAN).min(total))
}

/// The whole list as rows and blanks: `first..end` and `pinned` are rows, all else is blank.
pub fn slots(total: usize, (first, end): (usize, usize), pinned: Option<usize>) -> Vec<Slot> {
    let mut shown: Vec<usize> = (first..end.min(total)).collect();
    if let Some(pinned) = pinned.filter(|&row| row < total && !shown.contains(&row)) {
        let at = shown.partition_point(|&row| row < pinned);
        shown.insert(at, pinned);
    }
    let mut slots = Vec::with_capacity(shown.len() + 3);
    let mut next = 0;
    for row in shown {
        if row > next {
            slots.push(Slot::Blank { before: row, rows: row - next });
        }
        slots.push(Slot::Row(row));
        next = row + 1;
    }
    if total > next {
        slots.push(Slot::Blank { before: total, rows: total - next });
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_shown_or_stood_in_for() {
        for total in [0, 1, 30, 1_000] {
            for top in [0.0, 100.0, 5_000.0, 1e9] {
                for pinned in [None, Some(0), Some(29), Some(999), Some(5_000)] {
                    let slots = slots(total, in_view(total, 36.0, top, 720.0), pinned);
                    let rows: usize = slots
                        .iter()
                        .map(|slot| match slot {
                            Slot::Row(_) => 1,
                            Slot::Blank { rows, .. } => *rows,
                        })
                        .sum();
                    assert_eq!(rows, total, "top {top}, pinned {pinned:?}");
                    assert!(slots.len() < 60);
                }
            }
        }
    }

    #[test]
    fn the_focused_row_stays_however_far_the_list_is_scrolled() {
        let shown = slots(1_000, in_view(1_000, 36.0, 30_000.0, 720.0), Some(3));
        assert!(shown.contains(&Slot::Row(3)));
        assert_eq!(shown[0], Slot::Blank { before: 3, rows: 3 });
    }
}
