//! The tables of docs/benchmarks.md, read back.

/// How a table of figures begins.
pub(crate) const HEAD: &str = "\
| workload | ours | peer | peer's | ratio | goal | old target | |
|---|---|---|---|---|---|---|---|
";

/// Units of which more is better.
const MORE: [&str; 3] = ["/s", "%", "x"];

/// Units of which less is better.
const LESS: [&str; 9] = ["ns", "us", "ms", "s", "B", "KiB", "MiB", "per call", "per operation"];

/// What was measured of a component beside others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    pub(crate) component: String,
    /// The workloads that have peers, in the order of the table.
    pub(crate) groups: Vec<Group>,
}

/// A workload: our figure and those of its peers, all of one unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) workload: String,
    pub(crate) what: String,
    pub(crate) better: Better,
    pub(crate) ours: Figure,
    pub(crate) peers: Vec<Peer>,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// A figure, and how the table writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) text: String,
}

/// Another system on the same work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) figure: Figure,
    /// Above one in our favour; none where a figure is zero.
    pub(crate) ratio: Option<f64>,
}

/// A row of a table that has a peer with a figure.
struct Row {
    workload: String,
    what: String,
    better: Better,
    ours: Figure,
    peer: Peer,
}

/// Reads the sections of the page.
///
/// # Errors
///
/// The line, the table and the cell of what is no figure, of figures of two units, of a unit of which it
/// is not known whether more of it is better, and of a ratio that says the contrary of its figures.
pub(crate) fn read(page: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for (line, number) in page.lines().zip(1_u32..) {
        if let Some(component) = line.strip_prefix("## ") {
            let component = component.trim().to_owned();
            sections.push(Section { component, groups: Vec::new() });
        }
        let is_row = line.starts_with('|') && !HEAD.lines().any(|head| head == line);
        if !is_row {
            continue;
        }
        let section =
            sections.last_mut().ok_or_else(|| format!("line {number}: a table of no component"))?;
        let row = row(line)
            .map_err(|error| format!("line {number}, table `{}`: {error}", section.component))?;
        if let Some(row) = row {
            section.add(row);
        }
    }
    Ok(sections)
}

impl Section {
    fn add(&mut self, row: Row) {
        let Row { workload, what, better, ours, peer } = row;
        let is_it = |group: &&mut Group| group.workload == workload && group.ours == ours;
        match self.groups.iter_mut().find(is_it) {
            Some(group) => group.peers.push(peer),
            None => self.groups.push(Group { workload, what, better, ours, peers: vec![peer] }),
        }
    }
}

/// Reads a row; one whose peer has no figure is none to compare.
fn row(line: &str) -> Result<Option<Row>, String> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let &[work, ours, name, theirs, ratio, _goal, _target, _fate] = cells.as_slice() else {
        return Err(format!("a row of {} cells instead of 8", cells.len()));
    };
    let named = work.strip_prefix('`').and_then(|work| work.split_once("`: "));
    let (workload, what) = named.ok_or_else(|| format!("workload: `{work}` has no name"))?;
    let (ours, unit) = figure("ours", ours)?;
    if theirs == "-" {
        return Ok(None);
    }
    let (theirs, their_unit) = figure("peer's", theirs)?;
    if unit != their_unit {
        return Err(format!("peer's: `{}` beside `{}`: two units", theirs.text, ours.text));
    }
    let better = better(unit)?;
    let ratio = match ratio {
        "-" => None,
        text => Some(number(text).ok_or_else(|| format!("ratio: `{text}` is no figure"))?),
    };
    if let Some(ratio) = ratio {
        agree(better, (&ours, &theirs), ratio)?;
    }
    let peer = Peer { name: name.to_owned(), figure: theirs, ratio };
    let (workload, what) = (workload.to_owned(), what.to_owned());
    Ok(Some(Row { workload, what, better, ours, peer }))
}

/// Reads a cell like `1,230/s` or `305 us`: the figure and its unit.
fn figure<'a>(column: &str, cell: &'a str) -> Result<(Figure, &'a str), String> {
    let end = cell
        .find(|sign: char| !sign.is_ascii_digit() && sign != ',' && sign != '.')
        .unwrap_or(cell.len());
    let (digits, unit) = cell.split_at(end);
    let value = number(digits).ok_or_else(|| format!("{column}: `{cell}` is no figure"))?;
    Ok((Figure { value, text: cell.to_owned() }, unit.trim()))
}

fn number(text: &str) -> Option<f64> {
    let value: f64 = text.replace(',', "").parse().ok()?;
    (value.is_finite() && 0.0 <= value).then_some(value)
}

fn better(unit: &str) -> Result<Better, String> {
    if MORE.contains(&unit) {
        return Ok(Better::More);
    }
    if LESS.contains(&unit) {
        return Ok(Better::Less);
    }
    Err(format!("ours: is more `{unit}` better, or less? xtask/src/pictures/report.rs must know"))
}

/// Refuses a ratio that is clearly on the other side of one than its figures, which are medians as it is
/// one itself and may differ a little.
fn agree(better: Better, (ours, theirs): (&Figure, &Figure), ratio: f64) -> Result<(), String> {
    let (gain, base) = match better {
        Better::More => (ours.value, theirs.value),
        Better::Less => (theirs.value, ours.value),
    };
    let is_against = |ratio: f64| ratio < 0.8;
    let is_for = |gain: f64, base: f64| base * 1.25 < gain;
    let is_contrary =
        (is_against(ratio) && is_for(gain, base)) || (1.25 < ratio && is_for(base, gain));
    if is_contrary {
        return Err(format!("ratio: {ratio} of `{}` and `{}`", ours.text, theirs.text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[&str]) -> String {
        format!("# Page\n\n## cache\n\n{HEAD}{}\n", rows.join("\n"))
    }

    #[test]
    fn rows_of_one_workload_and_figure_are_one_group() {
        let page = page(&[
            "| `hit`: hits | 1,670,000/s | moka, itself | 2,680,000/s | 0.64 | 0.87 | - | **missed** |",
            "| `bytes`: of an entry | 6.58 KiB | moka | 28.3 KiB | 4.30 | - | - |  |",
            "| `hit`: the same | 1,670,000/s | foyer | 0/s | - | - | - |  |",
            "| `alone`: nobody else | 2per call | - | - | - | at most 2per call | - | met |",
        ]);
        let sections = read(&page).unwrap();
        let [Section { component, groups }] = sections.as_slice() else { panic!("{sections:?}") };
        let [hit, bytes] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!(component, "cache");
        assert_eq!((hit.what.as_str(), hit.better, hit.ours.value), ("hits", Better::More, 1.67e6));
        let [moka, foyer] = hit.peers.as_slice() else { panic!("{hit:?}") };
        assert_eq!((moka.name.as_str(), moka.ratio), ("moka, itself", Some(0.64)));
        assert_eq!((foyer.figure.text.as_str(), foyer.ratio), ("0/s", None));
        assert_eq!((bytes.better, bytes.ours.text.as_str()), (Better::Less, "6.58 KiB"));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_table() {
        let cases = [
            ("| `w`: x | fast | p | 1/s | 1.00 | - | - |  |", "ours: `fast` is no figure"),
            ("| `w`: x | 1/s | p | ?/s | 1.00 | - | - |  |", "peer's: `?/s` is no figure"),
            ("| `w`: x | 1.2.3/s | p | 1/s | 1.00 | - | - |  |", "ours: `1.2.3/s` is no figure"),
            ("| `w`: x | 1/s | p | 1/s | much | - | - |  |", "ratio: `much` is no figure"),
            ("| `w`: x | 1/s | p | 1ms | 1.00 | - | - |  |", "two units"),
            ("| `w`: x | 1mph | p | 1mph | 1.00 | - | - |  |", "is more `mph` better"),
            ("| `w`: x | 9/s | p | 1/s | 0.11 | - | - |  |", "ratio: 0.11 of `9/s` and `1/s`"),
            ("| `w`: x | 1ns | p | 9ns | 0.11 | - | - |  |", "ratio: 0.11 of `1ns` and `9ns`"),
            ("| w | 1/s | p | 1/s | 1.00 | - | - |  |", "workload: `w` has no name"),
            ("| `w`: x | 1/s | p |", "a row of 3 cells"),
        ];
        for (row, told) in cases {
            let error = read(&page(&[row])).unwrap_err();
            assert!(error.starts_with("line 7, table `cache`: "), "{error}");
            assert!(error.contains(told), "{error}");
        }
        assert!(read("| a |").unwrap_err().contains("line 1: a table of no component"));
    }
}
