//! The gestures that players send each other; nothing keeps them.

use serde::{Deserialize, Serialize};

/// A gesture; in JSON its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emoji {
    /// 👍
    ThumbsUp,
    /// 👏
    Clap,
    /// 😂
    Laugh,
    /// 🤔
    Think,
    /// 😮
    Surprise,
    /// 😢
    Cry,
    /// 🔥
    Fire,
    /// 👋
    Wave,
}

impl Emoji {
    /// Every gesture.
    pub const ALL: [Self; 8] = [
        Self::ThumbsUp,
        Self::Clap,
        Self::Laugh,
        Self::Think,
        Self::Surprise,
        Self::Cry,
        Self::Fire,
        Self::Wave,
    ];
}
