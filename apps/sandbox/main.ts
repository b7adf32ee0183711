import { runApp } from '@app/process';
import { sandbox } from './app';

void runApp(sandbox);
