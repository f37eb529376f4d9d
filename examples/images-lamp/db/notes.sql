CREATE TABLE notes (
    id INT AUTO_INCREMENT PRIMARY KEY,
    note VARCHAR(200) NOT NULL
);
INSERT INTO notes (note) VALUES ('written by the database itself');
