mod chains;
mod files;
mod fixture;
mod requests;
