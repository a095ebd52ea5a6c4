//! Another proxy-wasm module: it writes to the shared data and registers a queue, and passes every request.

/// The module in the binary format of WebAssembly.
pub(super) fn module() -> Vec<u8> {
    const I32: u8 = 0x7f;
    let function = |parameters: usize, results: usize| {
        let list = |count: usize| [vec![byte(count)], vec![I32; count]].concat();
        [vec![0x60], list(parameters), list(results)].concat()
    };
    // 0: set_shared_data(key, size, value, size, cas), 1: register_shared_queue(name, size, id), 2: on_configure(context, size),
    // 3: the version of the ABI, 4: malloc(size), which the host requires and does not call.
    let types = vector(&[function(5, 1), function(3, 1), function(2, 1), function(0, 0), function(1, 1)]);
    let import = |field: &str, kind: u8| [name("env"), name(field), vec![0x00, kind]].concat();
    let imports = vector(&[import("proxy_set_shared_data", 0), import("proxy_register_shared_queue", 1)]);
    let export = |field: &str, kind: u8, index: u8| [name(field), vec![kind, index]].concat();
    let exports = vector(&[
        export("memory", 0x02, 0),
        export("proxy_on_configure", 0x00, 2),
        export("proxy_abi_version_0_2_1", 0x00, 3),
        export("malloc", 0x00, 4),
    ]);
    let constant = |value: u8| vec![0x41, value];
    let call = |index: u8, arguments: &[u8]| {
        let arguments = arguments.iter().flat_map(|value| constant(*value)).collect();
        [arguments, vec![0x10, index, 0x1a]].concat()
    };
    let body = |instructions: Vec<u8>| sized([vec![0x00], instructions, vec![0x0b]].concat());
    let configure = [call(0, &[0, 8, 0, 8, 0]), call(1, &[0, 8, 16]), constant(1)].concat();
    let code = vector(&[body(configure), body(Vec::new()), body(constant(32))]);
    // At address 0.
    let data = vector(&[[vec![0x00, 0x41, 0x00, 0x0b], name("omniflow")].concat()]);
    let section = |id: u8, content: Vec<u8>| [vec![id], sized(content)].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, types),
        section(2, imports),
        section(3, vector(&[vec![2], vec![3], vec![4]])),
        section(5, vector(&[vec![0x00, 0x01]])),
        section(7, exports),
        section(10, code),
        section(11, data),
    ]
    .concat()
}

/// All sizes here have one byte in LEB128.
fn byte(size: usize) -> u8 {
    u8::try_from(size).ok().filter(|size| *size < 0x80).expect("a small module")
}

fn sized(content: Vec<u8>) -> Vec<u8> {
    [vec![byte(content.len())], content].concat()
}

fn name(text: &str) -> Vec<u8> {
    sized(text.as_bytes().to_vec())
}

fn vector(items: &[Vec<u8>]) -> Vec<u8> {
    [vec![byte(items.len())], items.concat()].concat()
}
