CREATE TABLE visits (
    id serial PRIMARY KEY,
    who text NOT NULL
);
INSERT INTO visits (who) VALUES ('the first one');
