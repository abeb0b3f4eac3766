//! The table: what was measured, what was to be reached, what a peer needs.

/// One measured figure, as a row of the table.
pub(crate) struct Row {
    figure: String,
    unit: &'static str,
    samples: Vec<f64>,
    target: Option<f64>,
    comin: Option<f64>,
}

impl Row {
    pub(crate) fn new(figure: &str, unit: &'static str, samples: Vec<f64>) -> Self {
        Self { figure: figure.into(), unit, samples, target: None, comin: None }
    }

    /// Less than this is good; for requests, exactly this.
    pub(crate) fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// Adds the figure that was recorded for comin, in the same unit.
    pub(crate) fn comin(mut self, comin: f64) -> Self {
        self.comin = Some(comin);
        self
    }

    fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            _ if sorted.is_empty() => f64::NAN,
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    fn cells(&self) -> [String; 6] {
        let (median, unit) = (self.median(), self.unit);
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = match self.samples.len() {
            0 | 1 => String::new(),
            n => format!("{} - {} ({n})", number(least), number(most)),
        };
        let exact = unit == "requests";
        let (target, met) = match self.target {
            None => (String::new(), String::new()),
            Some(target) => {
                let met = if exact { median <= target } else { median < target };
                let sign = if exact { "" } else { "< " };
                let met = match met {
                    true => "met".into(),
                    false => format!("MISSED by {}", number(median - target)),
                };
                (format!("{sign}{}", number(target)), met)
            }
        };
        let comin = self
            .comin
            .map(|comin| format!("{} recorded, {} x", number(comin), number(comin / median)));
        [
            self.figure.clone(),
            format!("{} {unit}", number(median)),
            range,
            target,
            met,
            comin.unwrap_or_default(),
        ]
    }
}

/// Prints the rows under a heading, in columns.
pub(crate) fn print(rows: &[Row]) {
    let heading = ["figure", "median", "min - max (n)", "target", "", "comin"];
    let mut cells = vec![heading.map(str::to_owned)];
    cells.extend(rows.iter().map(Row::cells));
    let width = |column: usize| cells.iter().map(|c| c[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    for (n, line) in cells.iter().enumerate() {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        println!("| {} |", padded.join(" | "));
        if n == 0 {
            let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            println!("| {} |", rule.join(" | "));
        }
    }
}

/// Three digits, or as many as it has before the point.
fn number(n: f64) -> String {
    let digits = match n.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{n:.digits$}")
}
