import { runApp } from '@app/process';
import { sealer } from './app';

void runApp(sealer);
