"""Records of evaluations, and the leaderboard made of them."""
