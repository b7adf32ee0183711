// A build starts from an empty folder, because the compiler writes nothing for files that it considers unchanged.
import { rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
