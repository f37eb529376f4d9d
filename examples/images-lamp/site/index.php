<?php
// Lists the notes that the database has; a POST adds one.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
header('Content-Type: text/plain; charset=utf-8');

// It has been started before this service, but may not answer yet.
for ($tries = 0; ; $tries++) {
    try {
        $db = new mysqli(getenv('DB_HOST'), getenv('DB_USER'), getenv('DB_PASSWORD'), getenv('DB_NAME'));
        break;
    } catch (mysqli_sql_exception $e) {
        if ($tries == 10) {
            http_response_code(503);
            exit("the database does not answer: {$e->getMessage()}\n");
        }
        usleep(200000);
    }
}

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $statement = $db->prepare('INSERT INTO notes (note) VALUES (?)');
    $statement->execute([$_POST['note'] ?? '']);
}
foreach ($db->query('SELECT note FROM notes ORDER BY id') as $row) {
    echo $row['note'], "\n";
}
