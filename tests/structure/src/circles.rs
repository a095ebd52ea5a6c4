//! Strongly connected components of a graph, by Tarjan's algorithm.

/// A walk over the graph.
struct Walk<'g> {
    edges: &'g [Vec<usize>],
    order: Vec<Option<usize>>,
    lowest: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    next: usize,
    found: Vec<Vec<usize>>,
}

/// The groups of at least two nodes that reach each other. `edges[n]` contains the successors of `n`.
pub fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let count = edges.len();
    let mut walk = Walk {
        edges,
        order: vec![None; count],
        lowest: vec![0; count],
        on_stack: vec![false; count],
        stack: Vec::new(),
        next: 0,
        found: Vec::new(),
    };
    for node in 0..count {
        if walk.order[node].is_none() {
            walk.visit(node);
        }
    }
    walk.found
}

// === impl Walk ===

impl Walk<'_> {
    fn visit(&mut self, node: usize) {
        self.order[node] = Some(self.next);
        self.lowest[node] = self.next;
        self.next += 1;
        self.stack.push(node);
        self.on_stack[node] = true;
        for &target in &self.edges[node] {
            match self.order[target] {
                None => {
                    self.visit(target);
                    self.lowest[node] = self.lowest[node].min(self.lowest[target]);
                }
                Some(order) if self.on_stack[target] => {
                    self.lowest[node] = self.lowest[node].min(order);
                }
                Some(_) => {}
            }
        }
        if self.order[node] == Some(self.lowest[node]) {
            let mut group = Vec::new();
            while let Some(member) = self.stack.pop() {
                self.on_stack[member] = false;
                group.push(member);
                if member == node {
                    break;
                }
            }
            if group.len() > 1 {
                self.found.push(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_reach_each_other_are_one_circle() {
        // 0 → 1 → 2 → 0, 2 → 3, 3 ⇄ 4, 5 alone.
        let edges = [vec![1], vec![2], vec![0, 3], vec![4], vec![3], vec![]];
        let mut found = circles(&edges);
        for group in &mut found {
            group.sort_unstable();
        }
        found.sort();
        assert_eq!(found, [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn a_chain_is_no_circle() {
        assert!(circles(&[vec![1], vec![2], vec![]]).is_empty());
    }
}
