//! An order in which dependencies come first, also where they go in circles. Pure, iterative: no chain is too deep.

/// The numbers `0..edges.len()` so that each comes after those it has edges to. In a circle only `strong_edges` (a part of
/// `edges`) count, and in a circle of those the lower number comes first.
#[must_use]
pub fn dependencies_first(edges: &[Vec<usize>], strong_edges: &[Vec<usize>]) -> Vec<usize> {
    let everything: Vec<usize> = (0..edges.len()).collect();
    let mut order = Vec::with_capacity(edges.len());
    for circle in circles(&everything, edges) {
        if circle.len() == 1 {
            order.extend(circle);
            continue;
        }
        for mut inner in circles(&circle, strong_edges) {
            inner.sort_unstable();
            order.extend(inner);
        }
    }
    order
}

const UNSEEN: usize = usize::MAX;

/// One node's state in Tarjan's search.
#[derive(Clone, Copy)]
struct Mark {
    index: usize,
    lowest: usize,
    on_stack: bool,
    /// Whether the node is one of those searched; edges to others are left out.
    belongs: bool,
}

/// Tarjan's strongly connected components of the given nodes; a component comes after those it has edges to.
fn circles(nodes: &[usize], edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search = Search {
        edges,
        marks: vec![Mark { index: UNSEEN, lowest: 0, on_stack: false, belongs: false }; edges.len()],
        stack: Vec::new(),
        count: 0,
        found: Vec::new(),
    };
    let mut sorted = nodes.to_vec();
    sorted.sort_unstable();
    for &node in &sorted {
        search.marks[node].belongs = true;
    }
    for &node in &sorted {
        if search.marks[node].index == UNSEEN {
            search.visit(node);
        }
    }
    search.found
}

struct Search<'e> {
    edges: &'e [Vec<usize>],
    marks: Vec<Mark>,
    stack: Vec<usize>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn visit(&mut self, root: usize) {
        // Each entry is a node and how many of its edges were followed.
        let mut path = vec![(self.enter(root), 0)];
        while let Some(top) = path.last_mut() {
            let (node, followed) = *top;
            if let Some(&next) = self.edges[node].get(followed) {
                top.1 += 1;
                let Some(&mark) = self.marks.get(next).filter(|mark| mark.belongs) else { continue };
                if mark.index == UNSEEN {
                    path.push((self.enter(next), 0));
                } else if mark.on_stack {
                    self.marks[node].lowest = self.marks[node].lowest.min(mark.index);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                self.marks[*parent].lowest = self.marks[*parent].lowest.min(self.marks[node].lowest);
            }
            if self.marks[node].lowest == self.marks[node].index {
                self.close(node);
            }
        }
    }

    fn enter(&mut self, node: usize) -> usize {
        let mark = &mut self.marks[node];
        (mark.index, mark.lowest, mark.on_stack) = (self.count, self.count, true);
        self.count += 1;
        self.stack.push(node);
        node
    }

    fn close(&mut self, root: usize) {
        let mut circle = Vec::new();
        while let Some(node) = self.stack.pop() {
            self.marks[node].on_stack = false;
            circle.push(node);
            if node == root {
                break;
            }
        }
        self.found.push(circle);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::dependencies_first;

    #[test]
    fn a_circle_is_ordered_by_its_strong_edges() {
        // 0 needs 1, 1 strongly needs 0, 2 needs both.
        let edges = vec![vec![1], vec![0], vec![1, 0]];
        assert_eq!(dependencies_first(&edges, &[vec![], vec![0], vec![]]), [0, 1, 2]);
        assert_eq!(dependencies_first(&edges, &[vec![1], vec![], vec![]]), [1, 0, 2]);
    }

    #[test]
    fn a_very_deep_chain_is_ordered() {
        let count = 200_000;
        let edges: Vec<Vec<usize>> = (0..count).map(|at| if at + 1 < count { vec![at + 1] } else { vec![] }).collect();
        let order = dependencies_first(&edges, &vec![vec![]; count]);
        assert_eq!((order[0], order[count - 1]), (count - 1, 0));
    }

    proptest! {
        #[test]
        fn everything_comes_once_and_after_what_it_needs(raw in proptest::collection::vec(proptest::collection::vec(0usize..12, 0..4), 1..12)) {
            let count = raw.len();
            // Only edges to lower numbers: no circles, so every edge must be honoured.
            let edges: Vec<Vec<usize>> = raw.iter().enumerate().map(|(at, to)| to.iter().copied().filter(|to| *to < at).collect()).collect();
            let order = dependencies_first(&edges, &vec![vec![]; count]);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            let place = |node: usize| order.iter().position(|other| *other == node);
            for (at, to) in edges.iter().enumerate() {
                for &needed in to {
                    prop_assert!(place(needed) < place(at));
                }
            }
            // With circles nothing is lost, nothing comes twice, and edges out of range do no harm.
            prop_assert_eq!(dependencies_first(&raw, &raw).len(), count);
        }
    }
}
