// Storage that speaks S3, in a folder: s3rver, which verifies every signature. Says `ready` when it listens.
//
// usage: node s3.mjs FOLDER PORT ID SECRET [BUCKET]
// While there is a file FOLDER.fail, every call is answered with 503 SlowDown.
import fs from 'node:fs';
import http from 'node:http';
import account from '@20minutes/s3rver/lib/models/account.js';
import S3rver from '@20minutes/s3rver';

const [folder, port, id, secret, bucket] = process.argv.slice(2);
account.DUMMY_ACCOUNT.createKeyPair(id, secret);
const server = new S3rver({ directory: folder, silent: true, configureBuckets: [] });
if (bucket) await server.store.putBucket(bucket);
const serve = server.callback();
const slow = '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';
http
  .createServer((request, response) => {
    const signed = new URL(request.url, 'http://s3').searchParams.has('X-Amz-Signature');
    if (signed && !fs.existsSync(`${folder}.fail`)) return serve(request, response);
    request.resume().on('end', () => response.writeHead(signed ? 503 : 401).end(slow));
  })
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));
