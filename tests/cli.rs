//! The verbs, each in a file, driven as a person would.

mod support;

mod cli {
    mod config;
    mod down;
    mod exec;
    mod files;
    mod image_words;
    mod images;
    mod logs;
    mod order;
    mod ps;
    mod up;
}
