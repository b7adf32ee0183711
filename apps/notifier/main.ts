import { runApp } from '@app/process';
import { notifier } from './app';

void runApp(notifier);
