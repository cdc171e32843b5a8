-- One file holds a study. Times are seconds since 1970; lists are JSON.
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS participants (
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again
  token TEXT NOT NULL UNIQUE,            -- its sha256
  created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS questions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  participant INTEGER NOT NULL REFERENCES participants ON DELETE CASCADE,
  position INTEGER NOT NULL,
  kind TEXT NOT NULL,                    -- asked, control, repeat or attention
  rule TEXT NOT NULL,
  pool INTEGER,                          -- its number in the pool; none for a check of attention
  items TEXT NOT NULL,                   -- ids of the K candidates
  shown TEXT NOT NULL,                   -- the candidate at each position
  propensity REAL NOT NULL,
  offered TEXT NOT NULL,                 -- the questions of the pool that were to choose from
  predicted TEXT,                        -- probability of each candidate, before the answer
  seed TEXT NOT NULL,
  created REAL NOT NULL,
  withdrawn REAL                         -- when an answer before it was undone
);
CREATE UNIQUE INDEX IF NOT EXISTS one_question
  ON questions (participant, position) WHERE withdrawn IS NULL;
CREATE TABLE IF NOT EXISTS answers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  participant INTEGER NOT NULL REFERENCES participants ON DELETE CASCADE,
  question INTEGER NOT NULL REFERENCES questions ON DELETE CASCADE,
  key TEXT NOT NULL,                     -- the same answer sent again has the same key
  answer TEXT NOT NULL,                  -- choice, same, both_bad or skip
  choice INTEGER,                        -- the candidate, where answer is choice
  strength INTEGER,
  time REAL NOT NULL,
  duration REAL,
  undone REAL,
  UNIQUE (participant, key)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_answer ON answers (question) WHERE undone IS NULL;
CREATE TABLE IF NOT EXISTS profiles (id TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
  profile TEXT NOT NULL REFERENCES profiles ON DELETE CASCADE,
  key TEXT NOT NULL,                     -- its sha256; of an old request itself
  digest TEXT,                           -- sha256 of key, verb and body; none of an old request
  PRIMARY KEY (profile, key)
);
-- Requests of profiles that are gone, which must not bring them back when they come again.
CREATE TABLE IF NOT EXISTS spent (digest TEXT PRIMARY KEY);  -- sha256 of a profile and requests.key
