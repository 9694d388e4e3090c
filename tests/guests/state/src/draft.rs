//! `wasi:keyvalue` as wasmtime has it.

wit_bindgen::generate!({
    path: "../../../wit/wasi-keyvalue-draft",
    world: "wasi:keyvalue/imports",
    generate_all,
});

use wasi::keyvalue::{atomics, batch, store};

/// Writes 1,500 keys, counts them by pages, and does the rest once.
pub fn tour(bucket: &str) -> Result<(), String> {
    let text = |error| format!("{error:?}");
    let bucket = store::open(bucket).map_err(text)?;
    let pairs: Vec<_> = (0..1500).map(|n| (format!("key-{n:04}"), vec![7])).collect();
    for some in pairs.chunks(750) {
        batch::set_many(&bucket, some).map_err(text)?;
    }
    let (mut pages, mut keys, mut cursor) = (0, Vec::new(), None);
    loop {
        let page = bucket.list_keys(cursor).map_err(text)?;
        pages += 1;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    keys.dedup();
    println!("draft keys {} in {pages} pages", keys.len());
    let many = batch::get_many(&bucket, &["key-0001".into(), "none".into()]).map_err(text)?;
    println!(
        "draft many {:?}",
        many.iter().map(|pair| pair.as_ref().map(|(_, v)| v.len())).collect::<Vec<_>>()
    );
    let names: Vec<_> = pairs.into_iter().map(|(key, _)| key).collect();
    for some in names.chunks(750) {
        batch::delete_many(&bucket, some).map_err(text)?;
    }
    println!("draft incremented to {}", atomics::increment(&bucket, "n", 5).map_err(text)?);
    bucket.set("own", b"old").map_err(text)?;
    println!(
        "draft {:?} {}",
        bucket.get("own").map_err(text)?.map(|v| v.len()),
        bucket.exists("key-0001").map_err(text)?
    );
    bucket.delete("own").map_err(text)
}
