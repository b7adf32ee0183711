import { runApp } from '@app/process';
import { verificationScheduler } from './app';

void runApp(verificationScheduler);
